"""A run as SavedModel, Keras, LiteRT or ONNX file, compared with the run."""
