"""The frames of a recording: when they came, how many independent ones they are worth, what other thresholds give."""
