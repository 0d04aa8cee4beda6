"""The meaning of distances: thresholds, error rates on other people, probabilities. No TensorFlow here."""
