"""Frozen nets: how each is named, cut at a tap, and given its weights."""

# The modules that register a kind of backbone, each imported when a backbone is first named.
MODULES = ("dlib_net", "keras_applications", "model_file", "onnx_net")
