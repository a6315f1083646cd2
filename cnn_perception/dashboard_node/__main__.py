"""`python -m cnn_perception.dashboard_node`: the program `dashboard_node`."""

import sys

from cnn_perception.entry_points import dashboard_node

sys.exit(dashboard_node())
