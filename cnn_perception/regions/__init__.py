"""Boxes of another detector: what a classifier says of each of them."""
