"""The tables of `people.sqlite`, step by step: a file of an older facetl is taken through the steps it lacks."""

from __future__ import annotations

# Photos, faces, and the ledger: what cannot be computed again.
_COLLECTION = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE detectors (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
CREATE TABLE photos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sha BLOB NOT NULL UNIQUE CHECK (length(sha) = 32),
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    taken_at TEXT,
    phash INTEGER,
    duplicate_of INTEGER REFERENCES photos ON DELETE SET NULL,
    detector INTEGER REFERENCES detectors
);
CREATE INDEX photos_by_time ON photos (taken_at IS NULL, taken_at, id);
CREATE INDEX photos_by_original ON photos (duplicate_of);
CREATE TABLE paths (path BLOB PRIMARY KEY, photo INTEGER NOT NULL REFERENCES photos ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX paths_by_photo ON paths (photo);
CREATE TABLE faces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    photo INTEGER NOT NULL REFERENCES photos ON DELETE CASCADE,
    numbers BLOB NOT NULL CHECK (length(numbers) = 60),
    size REAL NOT NULL,
    sharpness REAL NOT NULL,
    yaw REAL NOT NULL,
    pitch REAL NOT NULL,
    roll REAL NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('good', 'poor'))
);
CREATE INDEX faces_by_photo ON faces (photo);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('name', 'same', 'different', 'not-a-face', 'stranger', 'rename')),
    origin TEXT NOT NULL CHECK (origin IN ('user', 'region')),
    name TEXT,
    old TEXT,
    state INTEGER NOT NULL DEFAULT 0,
    moves TEXT
);
CREATE TABLE answer_faces (
    answer INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE,
    side INTEGER NOT NULL,
    face INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
    PRIMARY KEY (answer, side, face)
) WITHOUT ROWID;
CREATE INDEX answer_faces_by_face ON answer_faces (face);
"""

# What follows from the ledger and from clustering, so that a page is one query.
_DERIVED = """
CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE labels (
    face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
    label TEXT NOT NULL CHECK (label IN ('name', 'not-a-face', 'stranger')),
    person INTEGER REFERENCES people
);
CREATE INDEX labels_by_person ON labels (person, face);
CREATE TABLE stacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cover INTEGER REFERENCES faces ON DELETE SET NULL,
    size INTEGER NOT NULL,
    confidence REAL NOT NULL,
    person INTEGER REFERENCES people,
    suggestion TEXT
);
CREATE INDEX stacks_by_size ON stacks (size DESC, id);
CREATE INDEX stacks_by_person ON stacks (person);
CREATE INDEX stacks_by_cover ON stacks (cover);
CREATE TABLE members (
    face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
    stack INTEGER NOT NULL REFERENCES stacks ON DELETE CASCADE,
    confidence REAL NOT NULL
);
CREATE INDEX members_by_stack ON members (stack, face);
CREATE VIEW shown AS
    SELECT face, person, 1 AS said FROM labels WHERE label = 'name'
    UNION ALL
    SELECT members.face, stacks.person, 0 FROM stacks JOIN members ON members.stack = stacks.id
    WHERE stacks.person IS NOT NULL AND members.face NOT IN (SELECT face FROM labels)
"""

MIGRATIONS: tuple[str, ...] = (_COLLECTION, _DERIVED)
