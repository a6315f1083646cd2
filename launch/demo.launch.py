"""Starts perception_node on what camera_node reads from a device, a video file or a folder of images.

ros2 launch cnn_perception demo.launch.py model:=/path/model.onnx source:=/path/video.mp4
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from cnn_perception.ros import transport


def generate_launch_description() -> LaunchDescription:
    perception = str(Path(__file__).with_name("perception.launch.py"))
    camera = Node(
        package="cnn_perception",
        executable="camera_node",
        name="camera_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "rate_hz": ParameterValue(LaunchConfiguration("rate_hz"), value_type=float),
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "image_transport": ParameterValue(LaunchConfiguration("image_transport"), value_type=str),
            }
        ],
        remappings=[("image_raw", LaunchConfiguration("image"))],
        additional_env=transport.environment(),
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("model", description="ONNX model file made by training.export"),
            DeclareLaunchArgument("source", description="device number, video file or folder of images"),
            DeclareLaunchArgument("rate_hz", default_value="0.0", description="images per second; 0: the source's own"),
            DeclareLaunchArgument("loop", default_value="true", description="start a video or folder again at its end"),
            # The camera comes after it, because it shares its other arguments.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(perception), launch_arguments=[("model", LaunchConfiguration("model"))]
            ),
            camera,
        ]
    )
