"""Starts follow_node on the results of a running perception_node: drives to a class, stands still when in doubt.

ros2 launch cnn_perception follow.launch.py follow:=person cmd_vel:=/cmd_vel
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = [
    DeclareLaunchArgument("follow", description="name of the class to drive to"),
    DeclareLaunchArgument(
        "results", default_value="/perception_node", description="the perception node, with /CAMERA if it has several"
    ),
    DeclareLaunchArgument(
        "ray",
        default_value="centroid",
        choices=["centroid", "peak"],
        description="drive to the centroid or to the peak of the class's activation",
    ),
    DeclareLaunchArgument("cmd_vel", default_value="cmd_vel", description="topic of the velocity"),
    DeclareLaunchArgument("stamped", default_value="false", description="TwistStamped, as Nav2 wants since Kilted"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("follow.yaml")),
        description="YAML file with the node's other parameters",
    ),
]


def generate_launch_description() -> LaunchDescription:
    results = LaunchConfiguration("results")
    node = Node(
        package="cnn_perception",
        executable="follow_node",
        name="follow_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                # As a string, or a class named 7 or true would arrive as a number or a bool.
                "follow": ParameterValue(LaunchConfiguration("follow"), value_type=str),
                "stamped": ParameterValue(LaunchConfiguration("stamped"), value_type=bool),
            },
        ],
        remappings=[
            ("classification", [results, "/classification"]),
            ("ray", [results, "/activation/", LaunchConfiguration("ray"), "_ray"]),
            ("cmd_vel", LaunchConfiguration("cmd_vel")),
        ],
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, node])
