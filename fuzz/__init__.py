"""`make fuzz`: whether anything that a file or a message may contain gets past the errors that are meant for it.

Small valid inputs are damaged in ways that know their formats. It is a failure where an input ends in an exception that
is none of `cnn_perception.errors`, in an error of several lines, in a crash, in too much time or memory, or where an
image of a bag is lost without a word.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
sys.path.append(str(ROOT / "test" / "support"))  # the valid inputs are those of the tests
