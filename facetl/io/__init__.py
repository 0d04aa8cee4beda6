"""Files, locks and SQLite: how bytes reach the disk. Nothing here knows of faces."""
