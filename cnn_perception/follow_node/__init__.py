"""A node that steers a robot towards a class that is seen, and stops it when it is not."""
