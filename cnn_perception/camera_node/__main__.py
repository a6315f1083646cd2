"""`python -m cnn_perception.camera_node`: the program `camera_node`."""

import sys

from cnn_perception.entry_points import camera_node

sys.exit(camera_node())
