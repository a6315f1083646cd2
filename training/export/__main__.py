"""`python -m training.export`: see `command`."""

from __future__ import annotations

import sys

from training.export.command import main

sys.exit(main())
