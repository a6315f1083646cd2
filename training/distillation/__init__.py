"""One network taught by others: the teachers, and frames without labels, which they answer."""
