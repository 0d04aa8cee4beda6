"""Finding, judging and aligning the faces in photos."""
