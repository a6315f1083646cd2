"""`python -m cnn_perception.follow_node`: the program `follow_node`."""

import sys

from cnn_perception.entry_points import follow_node

sys.exit(follow_node())
