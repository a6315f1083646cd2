"""`python -m cnn_perception.perception_node`: the program `perception_node`."""

import sys

from cnn_perception.entry_points import perception_node

sys.exit(perception_node())
