"""From a photo's bytes to the pixels that a net expects."""
