"""`python -m training.baselines`: what deep learning is compared with."""

import sys

from training.baselines.command import main

sys.exit(main())
