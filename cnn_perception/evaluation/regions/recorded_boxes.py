"""The messages of boxes in a recording, each of the image whose stamp it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_perception.bag.message_types import DETECTIONS_TYPE
from cnn_perception.bag.reader import Bag
from cnn_perception.image.messages import nanoseconds
from cnn_perception.regions.matching import is_same_frame


def detections_of_images(
    bag: Bag, topic: str, frame_ids: Mapping[int, Sequence[str]], ignored: Counter[str], what: str
) -> dict[int, Sequence[Any]]:
    """Returns the vision_msgs/Detection2D of each stamp, and counts the messages that nobody can tell the image of.

    Args:
        bag: The open bag.
        topic: Of vision_msgs/Detection2DArray.
        frame_ids: Of the images of each stamp, nanoseconds.
        ignored: Is added to, by reason.
        what: The boxes, in the words of a reason.

    Raises:
        DataError: If there is no such topic, or a message cannot be read.
    """
    found: dict[int, Sequence[Any]] = {}
    for _, message in bag.stamped_messages(topic, (DETECTIONS_TYPE,), "topics of boxes"):
        stamp_ns = nanoseconds(message.header.stamp)
        images = frame_ids.get(stamp_ns, ())
        if stamp_ns <= 0 or not images:
            ignored[f"messages of {what} with a stamp of no image"] += 1
        elif not is_same_frame(str(message.header.frame_id), images[0]):
            ignored[f"messages of {what} of another frame_id"] += 1
        elif len(images) > 1:
            ignored[f"messages of {what} with a stamp of several images"] += 1
        elif stamp_ns in found:
            ignored[f"messages of {what} after the first of an image"] += 1
        else:
            found[stamp_ns] = message.detections
    return found
