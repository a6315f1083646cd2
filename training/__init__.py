"""Fine-tunes, verifies and exports image classifiers; torch lives here."""
