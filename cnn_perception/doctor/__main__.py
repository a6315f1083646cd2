"""`python -m cnn_perception.doctor`: the program `doctor`."""

import sys

from cnn_perception.doctor.cli import main

sys.exit(main())
