"""`python -m training.label`: see `command`."""

import os
import sys

from training.label.command import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # else a picture that is still being read, from a disk that has stalled, would be waited for
