"""Continual learning: a head learns new people from cached features and keeps what it knew."""
