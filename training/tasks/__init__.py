"""What a network learns, one file a task: its labels, its loss, its scores."""
