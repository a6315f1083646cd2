"""Fine-tunes, verifies and exports image classifiers; torch lives here."""

import cnn_perception as cnn_perception  # first: it takes the working directory off `sys.path`
