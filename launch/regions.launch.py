"""Starts perception_node beside a public detector, each of whose boxes it classifies; results are on ~/detections.

ros2 launch cnn_perception regions.launch.py model:=/path/model.onnx detector:=isaac_ros_rtdetr image:=/image_raw
"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration

from cnn_perception.ros import given_parameters

PERCEPTION = PythonLaunchDescriptionSource(str(Path(__file__).with_name("perception.launch.py")))

DETECTORS = {
    # Copies the header of its image, and gives boxes in pixels of the image before any resizing.
    "isaac_ros_rtdetr": ("image_raw", "detections_output"),
    # Copies the stamp and leaves frame_id empty; its boxes are in pixels of the network's input, which is why the
    # images are those that its encoder has resized.
    "isaac_ros_yolov8": ("yolov8_encoder/resize/image", "detections_output"),
}
"""Of each, the images that its boxes are pixels of, and its topic of vision_msgs/Detection2DArray. Source:
NVIDIA-ISAAC-ROS/isaac_ros_object_detection, rtdetr_decoder_node.cpp and yolov8_decoder_node.cpp.

detectnet of dusty-nv/ros_deep_learning publishes the type, too, but stamps boxes when it has found them, so that nobody
can tell of which image they are: have its source copy the header. yolo_ros has messages of its own: republish them."""

ARGUMENTS = [
    DeclareLaunchArgument(
        "detector", default_value="isaac_ros_rtdetr", choices=[*DETECTORS], description="whose boxes are classified"
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="ONNX model file made by training.export; '' where params_file names it",
    ),
    DeclareLaunchArgument(
        "image", default_value="", description="topic of the images; '' for the detector's usual one"
    ),
    DeclareLaunchArgument("rois_topic", default_value="", description="topic of its boxes; '' for its usual one"),
]


def warn_of_unknown(context: LaunchContext) -> None:
    """Names the arguments that were given and do not exist, of which launch says nothing."""
    shared = PERCEPTION.get_launch_description(context).get_launch_arguments()
    names = [argument.name for argument in (*ARGUMENTS, *shared)]
    if text := given_parameters.unused_launch_arguments(sys.argv, Path(__file__), names):
        get_logger("launch").warning(text)


def include(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """Returns the node, now that the arguments are known."""
    image, rois = DETECTORS[LaunchConfiguration("detector").perform(context)]
    given = {
        "model": LaunchConfiguration("model").perform(context),
        "image": LaunchConfiguration("image").perform(context) or image,
        "rois_topic": LaunchConfiguration("rois_topic").perform(context) or rois,
    }
    return [IncludeLaunchDescription(PERCEPTION, launch_arguments=given.items())]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=warn_of_unknown), OpaqueFunction(function=include)])
