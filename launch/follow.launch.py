"""Starts follow_node on the results of a running perception_node: drives to a class, stands still when in doubt.

ros2 launch cnn_perception follow.launch.py follow:=person cmd_vel:=/cmd_vel
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

from cnn_perception.ros import given_parameters

PARAMETERS = {"follow": str, "stamped": bool, "use_sim_time": bool}
"""Arguments that are parameters of the node: one that is not given leaves what params_file says. Texts are told to be
texts, or a class named 7 or true would arrive as a number or a bool."""
NAMES = {"results": "topic", "cmd_vel": "topic", "namespace": "namespace"}
"""Arguments that are names, or the beginning of one, and of what."""

ARGUMENTS = [
    DeclareLaunchArgument(
        "follow", default_value="", description="name of the class to drive to; '' where params_file names it"
    ),
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
    DeclareLaunchArgument(
        "stamped",
        default_value="",
        choices=["", "true", "false", "True", "False"],
        description="TwistStamped, as Nav2 wants since Kilted; '' for what params_file says, otherwise false",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", description="true for a simulation, or a bag played with --clock"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("follow.yaml")),
        description="YAML file with the node's other parameters",
    ),
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
    results = LaunchConfiguration("results")
    node = Node(
        package="cnn_perception",
        executable="follow_node",
        name="follow_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            given_parameters.file_of_argument("params_file", LaunchConfiguration("params_file").perform(context)),
            given,
        ],
        remappings=[
            ("classification", [results, "/classification"]),
            ("ray", [results, "/activation/", LaunchConfiguration("ray"), "_ray"]),
            ("cmd_vel", LaunchConfiguration("cmd_vel")),
        ],
        output="screen",
        on_exit=[OpaqueFunction(function=end_if_failed)],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=warn_of_unknown), OpaqueFunction(function=make_node)])
