"""The ROS message types that are read from bags and written to them, as rosbags' type store."""

from __future__ import annotations

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
CLASSIFICATION_TYPE = "vision_msgs/msg/Classification"
HYPOTHESIS_TYPE = "vision_msgs/msg/ObjectHypothesis"
STRING_TYPE = "std_msgs/msg/String"
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"

IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE)
LABEL_TYPES = (STRING_TYPE, CLASSIFICATION_TYPE)
NUMBER_TYPES = ("std_msgs/msg/Float32", "std_msgs/msg/Float64", JOINT_STATE_TYPE)
READ_TYPES = frozenset((*IMAGE_TYPES, *LABEL_TYPES, *NUMBER_TYPES, CAMERA_INFO_TYPE))
"""All that is read from bags; messages of other types are only counted."""

_VISION_MSGS = {
    HYPOTHESIS_TYPE: "string class_id\nfloat64 score\n",
    CLASSIFICATION_TYPE: "std_msgs/Header header\nObjectHypothesis[] results\n",
}
"""Field definitions of vision_msgs 4.1, which the type store lacks."""


def typestore() -> Typestore:
    """Returns the message types of ROS 2 with the two of vision_msgs that a classification needs."""
    types = get_typestore(Stores.LATEST)
    for name, definition in _VISION_MSGS.items():
        types.register(get_types_from_msg(definition, name))
    return types


def stored_type(name: str, encoding: str) -> str:
    """Returns a type as ROS 2 writes it, such as `sensor_msgs/msg/Image`.

    Args:
        name: As a recorder or converter wrote it: in the style of ROS 2, ROS 1 (`sensor_msgs/Image`) or DDS
            (`sensor_msgs::msg::dds_::Image_`).
        encoding: How its messages are serialised. One that is not CDR is added in brackets, because a type of
            READ_TYPES can only be read from CDR.
    """
    parts = [part for part in name.replace("::", "/").split("/") if part not in {"msg", "dds_"}]
    if len(parts) == 2:
        name = f"{parts[0]}/msg/{parts[1].removesuffix('_')}"
    return name if encoding in {"cdr", ""} else f"{name} ({encoding})"
