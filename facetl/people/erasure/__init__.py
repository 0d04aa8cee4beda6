"""Erasing a person from a library and from runs, and searching every file for what is left."""
