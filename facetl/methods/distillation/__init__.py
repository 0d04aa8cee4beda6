"""Small nets that learn to give the embeddings of a larger one."""
