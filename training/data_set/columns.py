"""The columns of a data set's table, each named once, and what its cells say.

    SET/labels.csv       the table: UTF-8, commas, a row an image
    SET/classes.txt      the classes that may be chosen, one name a line
    SET/images/...       the images that `training.collect` wrote; a table may name images elsewhere

Which columns hold the label depends on the task: `class`; `classes`, parted by `;`; or a column for each number. An
empty cell there is a label only where the row's state says so. `training.train --data SET/labels.csv` learns from the
labelled rows, and takes those that are `none of these` for images of no class.
"""

from __future__ import annotations

from cnn_perception.label_table import STATE as STATE
from cnn_perception.label_table import STATES as STATES
from cnn_perception.label_table import WAS as WAS
from cnn_perception.label_table import State as State

TABLE = "labels.csv"
CLASSES_FILE = "classes.txt"
IMAGES = "images"

PATH = "path"
CLASS = "class"
CLASSES = "classes"
PART = "part"
BAG = "bag"
"""What the image was recorded with: the name of a bag or folder; images of one stay in one part. The end of the only
recording of a data set that is held out is called NAME_val, NAME_test."""
TOPIC = "topic"
CAMERA = "camera"
"""Name of the camera, which its topic begins with, or its recorder's; empty for files."""
STAMP = "stamp_ns"
"""Of the image's header, nanoseconds; empty for files."""
GUESS = "guess"
"""What a model answers, as its label would be written."""
DOUBT = "doubt"
"""How little sure the model is, 0 to 1; the rows that most need a person have the highest."""
REASON = "reason"
"""Why the image was chosen: typical, diverse, margin, unknown or disagreement; every where all were taken; rate, key
or service from a running camera."""
CLUSTER = "cluster"
"""Number of the group of look-alikes that the image belongs to; empty where it stands alone."""
MODEL = "model"
"""SHA-256 of the model file that guessed."""
PERSON = "person"
"""Who decided."""

NO_NUMBERS = frozenset({PATH, CLASS, CLASSES, PART, "split", BAG, "group", STATE, WAS, GUESS, DOUBT, PERSON})
"""Columns that mean something of their own: no number of a label can be called so."""
