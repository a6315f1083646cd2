"""`python -m training.collect`: frames that are worth a label."""

import sys

from training.collect.command import main

sys.exit(main())
