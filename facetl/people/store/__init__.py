"""A library's SQLite file: photos, faces, people, stacks, answers."""
