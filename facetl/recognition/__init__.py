"""The Recognizer, extractor and head in one saved artefact, and the runs that make it."""
