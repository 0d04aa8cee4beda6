"""Frozen nets: how each is named, cut at a tap, and given its weights."""
