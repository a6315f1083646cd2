"""`python -m training.inspect`: see `command`."""

from __future__ import annotations

import sys

from training.inspect.command import main

sys.exit(main())
