"""What is done with the frames of a node's cameras, by the threads that do it."""
