"""`python -m training.look`: what a trained network sees."""

import sys

from training.look.command import main

sys.exit(main())
