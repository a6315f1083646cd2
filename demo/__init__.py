"""`make demo`: a drawn world, and the whole line run on it."""
