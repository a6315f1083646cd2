"""What the HTML reports of evaluation and training have in common: the page, its tables, its pictures."""
