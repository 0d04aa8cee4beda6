"""A photo collection and its people: import, clusters, answers, export, erasure."""
