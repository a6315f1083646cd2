"""Starts perception_node, activated.

ros2 launch cnn_perception perception.launch.py model:=/path/model.onnx image:=/camera/image_raw
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from cnn_perception.ros import transport

ARGUMENTS = [
    DeclareLaunchArgument("model", description="ONNX model file made by training.export"),
    DeclareLaunchArgument("image", default_value="image_raw", description="image topic to classify"),
    DeclareLaunchArgument(
        "image_transport",
        default_value="raw",
        choices=["raw", "compressed"],
        description="raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage on IMAGE/compressed)",
    ),
    DeclareLaunchArgument("name", default_value="perception_node", description="name of the node"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("perception.yaml")),
        description="YAML file with the node's other parameters",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
]


def generate_launch_description() -> LaunchDescription:
    node = Node(
        package="cnn_perception",
        executable="perception_node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                # As strings, or a file named 7 or true would arrive as a number or a bool.
                "model": ParameterValue(LaunchConfiguration("model"), value_type=str),
                "image_transport": ParameterValue(LaunchConfiguration("image_transport"), value_type=str),
            },
        ],
        remappings=[("image_raw", LaunchConfiguration("image"))],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        additional_env=transport.environment(),
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, node])
