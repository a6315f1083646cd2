"""A foreign graph as one of ours: what it takes and gives, what is put before and behind it, its head."""
