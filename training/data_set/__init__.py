"""A data set that is being labelled: a folder of images with one table, written by programs and people in turns."""
