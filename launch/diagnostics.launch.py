"""Starts diagnostic_aggregator, which groups the perception nodes' diagnostics on /diagnostics_agg.

ros2 launch cnn_perception diagnostics.launch.py

It comes with ros-$ROS_DISTRO-diagnostic-aggregator; rqt_robot_monitor shows the groups.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("diagnostics.yaml")),
        description="YAML file with the groups",
    ),
]


def generate_launch_description() -> LaunchDescription:
    aggregator = Node(
        package="diagnostic_aggregator",
        executable="aggregator_node",
        parameters=[LaunchConfiguration("params_file")],
        output="screen",
    )
    return LaunchDescription([*ARGUMENTS, aggregator])
