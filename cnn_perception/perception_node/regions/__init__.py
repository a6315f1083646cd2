"""Boxes of another detector beside the images of a node's cameras, and the answers to them."""
