"""Trains the head: samplers → tf.data → head with triplet loss."""
