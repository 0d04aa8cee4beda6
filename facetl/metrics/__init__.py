"""Metrics, protocols and baselines as functions on arrays. No TensorFlow here."""
