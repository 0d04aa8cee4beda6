"""The commands of a photo collection."""
