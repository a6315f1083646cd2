"""`python -m cnn_perception.evaluation`: the program `evaluate_bag`."""

import sys

from cnn_perception.entry_points import evaluate_bag

sys.exit(evaluate_bag())
