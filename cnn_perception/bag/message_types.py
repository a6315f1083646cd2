"""The ROS message types that are read from bags and written to them, as rosbags' type store."""

from __future__ import annotations

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from cnn_perception.image.messages import way_out

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
CLASSIFICATION_TYPE = "vision_msgs/msg/Classification"
HYPOTHESIS_TYPE = "vision_msgs/msg/ObjectHypothesis"
DETECTIONS_TYPE = "vision_msgs/msg/Detection2DArray"
STRING_TYPE = "std_msgs/msg/String"
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"
TIME_TYPE = "builtin_interfaces/msg/Time"
HEADER_TYPE = "std_msgs/msg/Header"
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
STATUS_TYPE = "diagnostic_msgs/msg/DiagnosticStatus"
KEY_VALUE_TYPE = "diagnostic_msgs/msg/KeyValue"
ANNOTATIONS_TYPE = "foxglove_msgs/msg/ImageAnnotations"
CIRCLE_TYPE = "foxglove_msgs/msg/CircleAnnotation"
POINTS_TYPE = "foxglove_msgs/msg/PointsAnnotation"
TEXT_TYPE = "foxglove_msgs/msg/TextAnnotation"
POINT_TYPE = "foxglove_msgs/msg/Point2"
COLOR_TYPE = "foxglove_msgs/msg/Color"

IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE)
LABEL_TYPES = (STRING_TYPE, CLASSIFICATION_TYPE)
NUMBER_TYPES = ("std_msgs/msg/Float32", "std_msgs/msg/Float64", JOINT_STATE_TYPE)
READ_TYPES = frozenset((*IMAGE_TYPES, *LABEL_TYPES, *NUMBER_TYPES, CAMERA_INFO_TYPE, DETECTIONS_TYPE))
"""All that is read from bags; messages of other types are only counted."""

_VISION_MSGS = {
    HYPOTHESIS_TYPE: "string class_id\nfloat64 score\n",
    CLASSIFICATION_TYPE: "std_msgs/Header header\nObjectHypothesis[] results\n",
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\n"
    "string id\n",
    DETECTIONS_TYPE: "std_msgs/Header header\nDetection2D[] detections\n",
}
"""Field definitions of vision_msgs 4.1, which the type store lacks."""

LINE_LOOP = 2
"""`type` of a PointsAnnotation that is drawn as a closed line."""
_FOXGLOVE_MSGS = {
    POINT_TYPE: "float64 x\nfloat64 y\n",
    COLOR_TYPE: "float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n",
    CIRCLE_TYPE: "builtin_interfaces/Time timestamp\nPoint2 position\nfloat64 diameter\nfloat64 thickness\n"
    "Color fill_color\nColor outline_color\n",
    POINTS_TYPE: f"builtin_interfaces/Time timestamp\nuint8 LINE_LOOP={LINE_LOOP}\nuint8 type\nPoint2[] points\n"
    "Color outline_color\nColor[] outline_colors\nColor fill_color\nfloat64 thickness\n",
    TEXT_TYPE: "builtin_interfaces/Time timestamp\nPoint2 position\nstring text\nfloat64 font_size\n"
    "Color text_color\nColor background_color\n",
    ANNOTATIONS_TYPE: "CircleAnnotation[] circles\nPointsAnnotation[] points\nTextAnnotation[] texts\n",
}
"""Field definitions of foxglove_msgs 3, which later versions only add to; Foxglove finds fields by their names."""


def typestore() -> Typestore:
    """Returns the message types of ROS 2 with those of vision_msgs and foxglove_msgs that are read or written."""
    types = get_typestore(Stores.LATEST)
    for name, definition in (_VISION_MSGS | _FOXGLOVE_MSGS).items():
        types.register(get_types_from_msg(definition, name))
    return types


_FOXGLOVE_PICTURES = ("CompressedImage", "CompressedVideo", "RawImage")
"""Types of pictures in package `foxglove`, as Foxglove's own recorders name those that ROS 2 has in foxglove_msgs."""


def foreign_way_out(type_name: str) -> str:
    """Returns what to do about pictures that are no messages of ROS 2; empty for other types.

    Args:
        type_name: As `stored_type` returns it.
    """
    name, _, encoding = type_name.removesuffix(")").partition(" (")
    package, _, kind = name.partition(".")
    if package == "foxglove" and kind in _FOXGLOVE_PICTURES:
        return way_out(f"foxglove_msgs/msg/{kind}").replace(f"foxglove_msgs/msg/{kind}", type_name)
    if not encoding or not (name in IMAGE_TYPES or way_out(name)):
        return ""
    if encoding == "ros1":
        return f"{type_name} is of ROS 1; convert the bag that it was made of with rosbags-convert"
    return f"{type_name} is not serialised as ROS 2 does it, in CDR; convert it to CompressedImage or Image of ROS 2"


def stored_topic(name: str) -> str:
    """Returns a topic's name as ROS 2 writes it, with one slash before it, which other recorders leave out."""
    return f"/{name.lstrip('/')}"


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
    return name if encoding.lower() in {"cdr", ""} else f"{name} ({encoding})"
