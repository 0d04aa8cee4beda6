"""Files, locks and SQLite: how bytes reach the disk; and settings as options. Nothing here knows of faces."""
