"""Settings that belong together, each as a file of the command line's own options."""
