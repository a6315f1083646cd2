"""Checkpoint -> ONNX graph, and how a network's layers see its input."""
