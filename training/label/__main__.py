"""`python -m training.label`: see `command`."""

import sys

from training.label.command import main

sys.exit(main())
