"""Which network a data set is worth: several tried on its training part, one left for the node."""
