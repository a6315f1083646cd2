"""Labelled images: found, checked, and divided into training, validation and test images."""
