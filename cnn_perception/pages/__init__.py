"""What the HTML reports of evaluation and training have in common."""
