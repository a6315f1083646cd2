"""Which of a model's files, on which execution provider, answers soonest on this machine."""
