"""`python -m training.adopt`: see `command`."""

import sys

from training.adopt.command import main

sys.exit(main())
