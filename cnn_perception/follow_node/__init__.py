"""The node that drives a robot towards a class that is recognised, and stops it when it is not."""
