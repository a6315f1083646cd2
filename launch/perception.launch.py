"""Starts perception_node, activated.

ros2 launch cnn_perception perception.launch.py model:=/path/model.onnx image:=/camera/image_raw
"""

import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from cnn_perception import topic_names
from cnn_perception.ros import given_parameters, transport

PARAMETERS = {"model": str, "image_transport": str, "rois_topic": str, "use_sim_time": bool, "autostart": bool}
"""Arguments that are parameters of the node: one that is not given leaves what params_file says. Texts are told to be
texts, or a file named 7 or true would arrive as a number or a bool."""
NAMES = {"image": "topic", "name": "node", "namespace": "namespace"}
"""Arguments that are names, and of what."""

LAYOUTS = Path(__file__).with_name("layouts")
VIEWERS = {"foxglove": "foxglove_bridge", "rviz": "rviz2"}
"""The package, and its program of the same name, by which each viewer sees the node."""

ARGUMENTS = [
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="ONNX model file made by training.export; '' where params_file names it",
    ),
    DeclareLaunchArgument("image", default_value="image_raw", description="image topic to classify"),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage on IMAGE/compressed); "
        "'' for what params_file says, otherwise raw",
    ),
    DeclareLaunchArgument(
        "rois_topic",
        default_value="",
        description="topic of another detector's boxes, vision_msgs/Detection2DArray, each of which is then answered "
        "on ~/detections; '' for what params_file says, otherwise none. They must have the stamps of the images, and "
        "be pixels of them: see regions.launch.py",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", description="true for a simulation, or a bag played with --clock"
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false", "True", "False"],
        description="false where a lifecycle manager, such as Nav2's, configures and activates the node; '' for what "
        "params_file says, otherwise true",
    ),
    DeclareLaunchArgument("name", default_value="perception_node", description="name of the node"),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(Path(__file__).with_name("perception.yaml")),
        description="YAML file with the node's other parameters",
    ),
    DeclareLaunchArgument(
        "on_exit",
        default_value="shutdown",
        choices=["shutdown", "ignore"],
        description="what the end of the node means: shutdown ends the launch, with exit code 1 if the node failed; "
        "ignore lets the others go on, as where a larger launch file includes this one",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="false",
        choices=["true", "false", "True", "False"],
        description="start the node again when it ends",
    ),
    DeclareLaunchArgument("respawn_delay", default_value="2.0", description="seconds before it is started again"),
    DeclareLaunchArgument(
        "viewer",
        default_value="none",
        choices=["none", *VIEWERS],
        description="what shows the answers: rviz opens RViz with the shipped layout; foxglove starts the bridge that "
        "Foxglove connects to, and says where its layout is",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
]


def end_launch(context: LaunchContext) -> list[Shutdown]:
    """Ends the launch because the node has ended; an error is the only way to give `ros2 launch` an exit code."""
    event = context.locals.event
    if context.is_shutdown:
        return []
    if event.returncode:
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}")
    return [Shutdown(reason=f"{event.process_name} has ended")]


def warn_of_unknown(_: LaunchContext) -> None:
    """Names the arguments that were given and do not exist, of which launch says nothing."""
    names = [argument.name for argument in ARGUMENTS]
    if text := given_parameters.unused_launch_arguments(sys.argv, Path(__file__), names):
        get_logger("launch").warning(text)


def make_node(context: LaunchContext) -> list[Node]:
    """Returns the node, now that the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    given_parameters.check_launch_arguments(texts, PARAMETERS)
    given_parameters.check_launch_names({name: LaunchConfiguration(name).perform(context) for name in NAMES}, NAMES)
    kinds = {name: kind for name, kind in PARAMETERS.items() if texts[name]}
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in kinds.items()}
    respawn = LaunchConfiguration("respawn").perform(context).lower() == "true"
    delay = LaunchConfiguration("respawn_delay").perform(context)
    ends_launch = not respawn and LaunchConfiguration("on_exit").perform(context) == "shutdown"
    node = Node(
        package="cnn_perception",
        executable="perception_node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            given_parameters.file_of_argument("params_file", LaunchConfiguration("params_file").perform(context)),
            given,
        ],
        remappings=[("image_raw", LaunchConfiguration("image"))],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        additional_env=transport.environment(),
        output="screen",
        respawn=respawn,
        respawn_delay=given_parameters.seconds_of_argument("respawn_delay", delay),
        on_exit=[OpaqueFunction(function=end_launch)] if ends_launch else None,
    )
    return [node]


def make_viewer(context: LaunchContext) -> list[Node | LogInfo]:
    """Returns the viewer, or a line that says how to install it; nothing where none is wanted."""
    viewer = LaunchConfiguration("viewer").perform(context)
    if viewer == "none":
        return []
    package = VIEWERS[viewer]
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        name = package.replace("_", "-")
        return [LogInfo(msg=f"viewer:={viewer}: {package} is not installed: sudo apt install ros-$ROS_DISTRO-{name}")]
    if viewer == "rviz":
        return [_rviz(context)]
    text = f"in Foxglove, open a connection to ws://HOST:8765 and import the layout {LAYOUTS / 'foxglove.json'}"
    return [Node(package=package, executable=package, output="screen"), LogInfo(msg=text)]


def _rviz(context: LaunchContext) -> Node:
    """Returns RViz with the shipped layout, whose topics are remapped to those of the node.

    It is in the node's namespace, in which relative names are those of the node, whatever else has pushed one.
    """
    name = LaunchConfiguration("name").perform(context)
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(LAYOUTS / "perception.rviz")],
        remappings=[
            (topic_names.below(topic_names.NODE, topic_names.OVERLAY), f"{name}/{topic_names.OVERLAY}"),
            (topic_names.IMAGE, LaunchConfiguration("image")),
        ],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    functions = (warn_of_unknown, make_node, make_viewer)
    return LaunchDescription([*ARGUMENTS, *(OpaqueFunction(function=function) for function in functions)])
