"""Starts diagnostic_aggregator, which groups the perception nodes' diagnostics on /diagnostics_agg.

ros2 launch cnn_perception diagnostics.launch.py

It comes with ros-$ROS_DISTRO-diagnostic-aggregator; rqt_robot_monitor shows the groups.
"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from cnn_perception.ros import given_parameters

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("diagnostics.yaml")),
        description="YAML file with the groups",
    ),
]


def warn_of_unknown(_: LaunchContext) -> None:
    """Names the arguments that were given and do not exist, of which launch says nothing."""
    names = [argument.name for argument in ARGUMENTS]
    if text := given_parameters.unused_launch_arguments(sys.argv, Path(__file__), names):
        get_logger("launch").warning(text)


def make_node(context: LaunchContext) -> list[Node]:
    """Returns the aggregator, now that the arguments are known."""
    groups = given_parameters.file_of_argument("params_file", LaunchConfiguration("params_file").perform(context))
    node = Node(
        package="diagnostic_aggregator",
        executable="aggregator_node",
        parameters=[groups],
        output="screen",
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=warn_of_unknown), OpaqueFunction(function=make_node)])
