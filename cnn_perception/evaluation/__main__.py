"""`python -m cnn_perception.evaluation`: the program `evaluate_bag`."""

import sys

from cnn_perception.evaluation.cli import main

sys.exit(main())
