"""`python -m training.auto`: chooses a network for labelled images, and leaves its model file."""

import sys

from training.auto.command import main

sys.exit(main())
