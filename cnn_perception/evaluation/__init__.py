"""Scores a model file on a bag or a folder of images, and writes the report: the program `evaluate_bag`."""
