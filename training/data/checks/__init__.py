"""What is noticed about the images of a data set, and what it is refused for."""
