"""What distances mean: thresholds, error rates on other people, probabilities. No TensorFlow here."""
