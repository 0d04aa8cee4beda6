"""Who was named, and how much there is of everything."""

from __future__ import annotations

from facetl.io.sqlite_file import Execute
from facetl.people.store.models import Person

# The cover is a face that the user named so, a good one, and the largest of those: SQLite takes the other
# columns from the row that has the maximum.
_EVERYBODY = """
SELECT people.id, people.name, count(*), count(DISTINCT faces.photo), faces.id, sum(shown.said),
    max(shown.said * 2e6 + (faces.kind = 'good') * 1e6 + min(faces.size, 99999))
FROM shown JOIN people ON people.id = shown.person JOIN faces ON faces.id = shown.face
GROUP BY people.id ORDER BY people.name COLLATE NOCASE, people.id
"""
_COUNTS = {
    "photos": "SELECT count(*) FROM photos",
    "faces": "SELECT count(*) FROM faces",
    "good": "SELECT count(*) FROM faces WHERE kind = 'good'",
    "poor": "SELECT count(*) FROM faces WHERE kind = 'poor'",
    "without_face": "SELECT count(*) FROM photos WHERE id NOT IN (SELECT photo FROM faces)",
    "near_duplicates": "SELECT count(*) FROM photos WHERE duplicate_of IS NOT NULL",
    "people": "SELECT count(DISTINCT person) FROM shown",
    "named": "SELECT count(*) FROM labels WHERE label = 'name'",
    "not_faces": "SELECT count(*) FROM labels WHERE label = 'not-a-face'",
    "strangers": "SELECT count(*) FROM labels WHERE label = 'stranger'",
    "stacks": "SELECT count(*) FROM stacks",
    "unnamed_stacks": "SELECT count(*) FROM stacks WHERE person IS NULL",
    "stacked": "SELECT count(*) FROM members",
    "answers": "SELECT count(*) FROM answers WHERE state = 0",
}


def everybody(sql: Execute) -> list[Person]:
    """Return everybody who was named and has a face, by name."""
    return [Person(*record[:-1]) for record in sql(_EVERYBODY)]


def shown(sql: Execute) -> dict[int, str]:
    """Return the name under which each face is shown."""
    return dict(sql("SELECT face, name FROM shown JOIN people ON people.id = shown.person ORDER BY face").fetchall())


def counts(sql: Execute) -> dict[str, int]:
    """Return how many there are of everything."""
    return {name: int(sql(query).fetchone()[0]) for name, query in _COUNTS.items()}


def has_faces(sql: Execute, name: str) -> bool:
    """Return whether any face has this name."""
    query = "SELECT 1 FROM people JOIN labels ON labels.person = people.id WHERE people.name = ? LIMIT 1"
    return sql(query, (name,)).fetchone() is not None


def change_name(sql: Execute, old: str, new: str) -> None:
    """Change the name of a person, who keeps the id and the suggestions, to one that nobody has now."""
    spare = "\0"  # no name holds it
    for before, after in ((new, spare), (old, new), (spare, old)):
        sql("UPDATE people SET name = ? WHERE name = ?", (after, before))
    sql("UPDATE stacks SET suggestion = ? WHERE suggestion = ?", (new, old))
