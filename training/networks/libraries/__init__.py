"""Where networks come from: a library each, found by how a network's name begins."""
