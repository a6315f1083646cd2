"""The ROS message types that are read from bags and written to them, as rosbags' type store."""

from __future__ import annotations

import functools

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
CLASSIFICATION_TYPE = "vision_msgs/msg/Classification"
HYPOTHESIS_TYPE = "vision_msgs/msg/ObjectHypothesis"

_VISION_MSGS = {
    HYPOTHESIS_TYPE: "string class_id\nfloat64 score\n",
    CLASSIFICATION_TYPE: "std_msgs/Header header\nObjectHypothesis[] results\n",
}
"""Field definitions of vision_msgs 4.1, which the type store lacks."""


@functools.cache
def typestore() -> Typestore:
    """Returns the message types of ROS 2 with the two of vision_msgs that a classification needs; always the same."""
    types = get_typestore(Stores.LATEST)
    for name, definition in _VISION_MSGS.items():
        types.register(get_types_from_msg(definition, name))
    return types
