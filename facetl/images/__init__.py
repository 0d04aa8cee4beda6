"""Photos as pixels: decoding, resizing, reading ahead, perceptual hashes."""
