"""Chooses frames of recordings, folders, recorders and running cameras for labelling, and makes a data set of them."""
