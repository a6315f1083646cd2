"""Starts dashboard_node: a page in the browser that shows a running perception node, and changes nothing.

ros2 launch cnn_perception dashboard.launch.py
"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from cnn_perception.ros import given_parameters, transport

PARAMETERS = {"perception_node": str, "port": int, "host": str, "always": bool, "use_sim_time": bool}
"""Arguments that are parameters of the node: one that is not given leaves the node's default."""
NAMES = {"namespace": "namespace"}
"""Arguments that are names, and of what."""

ARGUMENTS = [
    DeclareLaunchArgument(
        "perception_node", default_value="", description="the node to show, with its namespace; '' for /perception_node"
    ),
    DeclareLaunchArgument("port", default_value="", description="port of the page; '' takes a free one"),
    DeclareLaunchArgument(
        "host",
        default_value="",
        description="numeric address to listen at; '' for 127.0.0.1, which only this machine reaches (from another: "
        "ssh -L); 0.0.0.0 lets others in who have the token, unencrypted",
    ),
    DeclareLaunchArgument(
        "always",
        default_value="",
        choices=["", "true", "false", "True", "False"],
        description="true collects while nobody looks, too",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", description="true for a simulation, or a bag played with --clock"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the page's own node"),
]


def warn_of_unknown(_: LaunchContext) -> None:
    """Names the arguments that were given and do not exist, of which launch says nothing."""
    names = [argument.name for argument in ARGUMENTS]
    if text := given_parameters.unused_launch_arguments(sys.argv, Path(__file__), names):
        get_logger("launch").warning(text)


def end_if_failed(context: LaunchContext) -> None:
    """Gives `ros2 launch` an exit code because the node has failed; a larger launch that includes this file goes on."""
    event = context.locals.event
    if event.returncode and not context.is_shutdown and given_parameters.is_launched(sys.argv, Path(__file__)):
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}")


def make_node(context: LaunchContext) -> list[Node]:
    """Returns the node, now that the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    given_parameters.check_launch_arguments(texts, PARAMETERS)
    given_parameters.check_launch_names({name: LaunchConfiguration(name).perform(context) for name in NAMES}, NAMES)
    kinds = {name: kind for name, kind in PARAMETERS.items() if texts[name]}
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in kinds.items()}
    node = Node(
        package="cnn_perception",
        executable="dashboard_node",
        name="dashboard_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[given],
        additional_env=transport.environment(),
        output="screen",
        on_exit=[OpaqueFunction(function=end_if_failed)],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=warn_of_unknown), OpaqueFunction(function=make_node)])
