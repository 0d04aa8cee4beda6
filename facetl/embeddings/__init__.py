"""The embedding cache on disk, and what fills it."""
