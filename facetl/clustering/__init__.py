"""Faces grouped into people: neighbours, similarity, constraints, linkage, active learning."""
