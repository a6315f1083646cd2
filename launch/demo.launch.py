"""Starts perception_node on what camera_node reads from a device, a video file or a folder of images.

ros2 launch cnn_perception demo.launch.py model:=/path/model.onnx source:=/path/video.mp4
"""

import sys
from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from cnn_perception.ros import given_parameters, transport

PERCEPTION = PythonLaunchDescriptionSource(str(Path(__file__).with_name("perception.launch.py")))

PARAMETERS = {
    "source": str,
    "rate_hz": float,
    "loop": bool,
    "width": int,
    "height": int,
    "camera_info_url": str,
    "frame_id": str,
    "image_transport": str,
}
"""Arguments that are parameters of the camera; one that is not given leaves its default."""

ARGUMENTS = [
    DeclareLaunchArgument("source", description="device number, video file or folder of images"),
    DeclareLaunchArgument("rate_hz", default_value="0.0", description="images per second; 0: the source's own"),
    DeclareLaunchArgument("loop", default_value="true", description="start a video or folder again at its end"),
    DeclareLaunchArgument("width", default_value="0", description="columns of the images; 0 keeps the source's"),
    DeclareLaunchArgument("height", default_value="0", description="rows of the images; 0 keeps the source's"),
    DeclareLaunchArgument(
        "camera_info_url",
        default_value="",
        description="calibration file: path, file:// or package:// URL, with ${ROS_HOME} if wanted",
    ),
    DeclareLaunchArgument("frame_id", default_value="camera", description="frame of the images"),
]


def check_arguments(context: LaunchContext) -> None:
    """Names the arguments that do not exist, of which launch says nothing, and refuses what the camera cannot take.

    It comes first: the end of launch by an error may miss a process that has just been started.
    """
    texts = {name: context.launch_configurations.get(name, "") for name in PARAMETERS}
    given_parameters.check_launch_arguments(texts, PARAMETERS)
    shared = PERCEPTION.get_launch_description(context).get_launch_arguments()
    names = [argument.name for argument in (*ARGUMENTS, *shared)]
    if text := given_parameters.unused_launch_arguments(sys.argv, Path(__file__), names):
        get_logger("launch").warning(text)


def end_if_failed(context: LaunchContext) -> None:
    """Ends the launch with an exit code because the camera has failed; a video that is over ends nothing."""
    event = context.locals.event
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}")


def make_camera(context: LaunchContext) -> list[Node]:
    """Returns the camera, now that the arguments are known."""
    kinds = {name: kind for name, kind in PARAMETERS.items() if LaunchConfiguration(name).perform(context)}
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in kinds.items()}
    camera = Node(
        package="cnn_perception",
        executable="camera_node",
        name="camera_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[given],
        remappings=[("image_raw", LaunchConfiguration("image"))],
        additional_env=transport.environment(),
        output="screen",
        on_exit=[OpaqueFunction(function=end_if_failed)],
    )
    return [camera]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=check_arguments),
            # The camera comes after it, because it shares its other arguments.
            IncludeLaunchDescription(PERCEPTION),
            OpaqueFunction(function=make_camera),
        ]
    )
