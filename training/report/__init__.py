"""What people look at after a run: the page, its figures, the worst images, how it was made."""
