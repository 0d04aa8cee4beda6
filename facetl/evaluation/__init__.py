"""Metrics, protocols' scoring, baselines, plots and the report. Imports no TensorFlow."""
