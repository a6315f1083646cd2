"""What the user may choose of how a data set is read; needs no more than the settings do."""

from __future__ import annotations

from typing import Literal

from cnn_perception.model.spec import Task

TaskChoice = Literal["auto", Task]
"""What to learn; `auto` tells it from the labels."""
By = Literal["random", "tail"]
"""Which images are held out: random ones, or the last in the order of recording."""
OnConflict = Literal["error", "drop", "first"]
"""What becomes of images and classes that contradict each other, see `conflicts`."""
