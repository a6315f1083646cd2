"""`python -m training.gradients`: see `command`."""

from __future__ import annotations

import sys

from training.gradients.command import main

sys.exit(main())
