"""Makes a model file of a classifier that others have exported to ONNX."""
