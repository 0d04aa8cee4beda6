"""Other ways to learn: Siamese pairs, nets from scratch, distillation, continual learning."""
