"""Samples -> batches of the network's input: decoded, cached, augmented, preprocessed as on the robot."""
