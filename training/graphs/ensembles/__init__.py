"""Several networks as one graph, whose score is the mean of theirs."""
