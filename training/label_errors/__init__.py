"""Which labels of a data set are wrong, which images stand out, and what gives the classes away."""
