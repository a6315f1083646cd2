"""A training run: the probe, the epochs of fine-tuning, and what keeps them going."""
