"""Owns: what `ros2 launch` makes of the launch files, with real launch and real nodes; skipped where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image as Picture
from tiny_model import write_tiny_model

pytest.importorskip("launch_ros", reason="launch comes with an apt ROS 2, not as a wheel")
pytest.importorskip("rclpy", reason="no ROS 2")

from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from ros import ENDS_WITHIN_S, new_domain, participant
from sensor_msgs.msg import CameraInfo, Image

BIN = Path(sys.executable).parent
SERVICE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *given = sys.argv[1:]
arguments = [tuple(one.split(":=", 1)) for one in given]
service = LaunchService()
source = PythonLaunchDescriptionSource(path)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""
RVIZ = """
import os, sys, rclpy
rclpy.init(args=sys.argv)
node = rclpy.create_node("rviz")
names = [node.resolve_topic_name(name) for name in ("/perception_node/activation/overlay", "/image_raw")]
with open(f"{FOLDER}/written", "w") as file:
    print(" ".join(sys.argv), *names, sep="\\n", file=file)
os.rename(file.name, f"{FOLDER}/given")
"""
"""Stands in for RViz: writes what it is given, and what ROS makes of the names in the layout."""

CALIBRATION = """
image_width: 64
image_height: 48
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.0, 0.0, 0.0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [50.0, 0, 32.0, 0, 0, 50.0, 24.0, 0, 0, 0, 1.0, 0]}
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    """Where launch finds the package's programs, as colcon installs them."""
    folder = tmp_path_factory.mktemp("prefix")
    programs = folder / "lib" / "cnn_perception"
    programs.mkdir(parents=True)
    for name in ("perception_node", "camera_node", "follow_node", "dashboard_node"):
        (programs / name).symlink_to(BIN / name)
    index = folder / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "cnn_perception").touch()
    return folder


@contextmanager
def launched(prefix: Path, domain: int, log: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a launch file as `ros2 launch` does; Ctrl-C in its terminal at the end."""
    environment = os.environ | {
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ.get('AMENT_PREFIX_PATH', BIN.parent)}",
        "ROS_DOMAIN_ID": str(domain),
        "ROS_LOG_DIR": str(log.parent),
    }
    command = [sys.executable, "-c", SERVICE, str(ROOT / "launch" / name), *arguments]
    with (
        log.open("wb") as text,
        subprocess.Popen(command, env=environment, stdout=text, stderr=text, start_new_session=True) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(ENDS_WITHIN_S)


def values(ros, node: str, *names: str) -> list:
    answer = ros.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=list(names)))
    return [value.string_value or value.bool_value for value in answer.values]


def test_params_file_is_not_overruled_by_what_was_not_given(prefix: Path, tmp_path: Path):
    (tmp_path / "7.onnx").write_bytes(write_tiny_model(tmp_path / "tiny.onnx").read_bytes())
    (tmp_path / "robot.yaml").write_text(
        "/**:\n  ros__parameters:\n    image_transport: compressed\n    use_sim_time: true\n"
        f"    model: {tmp_path}/7.onnx\n"
    )
    domain = new_domain()
    arguments = (f"params_file:={tmp_path}/robot.yaml", "namespace:=robot")
    with (
        participant(domain) as ros,
        launched(prefix, domain, tmp_path / "log", "perception.launch.py", *arguments),
    ):
        found = values(ros, "/robot/perception_node", "image_transport", "model", "use_sim_time")
    assert found == ["compressed", f"{tmp_path}/7.onnx", True]


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 1), (("on_exit:=ignore",), 0)], ids=["by default", "where it is to be ignored"]
)
def test_missing_model_is_the_exit_code_of_the_launch(prefix: Path, tmp_path: Path, arguments, code: int):
    given = (f"model:={tmp_path}/gone.onnx", *arguments)
    with launched(prefix, new_domain(), tmp_path / "log", "perception.launch.py", *given) as process:
        assert process.wait(60) == code
    text = (tmp_path / "log").read_text()
    assert "gone.onnx" in text
    assert ("ended with exit code 2" in text) is (code == 1)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("follow.launch.py", "params_file:=gone.yaml", "argument params_file is 'gone.yaml': there is no such file"),
        ("perception.launch.py", "params_file:=gone.yaml", "argument params_file is 'gone.yaml': there is no such"),
        ("perception.launch.py", "respawn_delay:=soon", "argument respawn_delay is 'soon', but a number is wanted"),
        ("perception.launch.py", "use_sim_time:=maybe", "argument use_sim_time is 'maybe', but true or false"),
        ("perception.launch.py", "image:=cam/", "argument image is 'cam/', no name of a topic: write cam"),
        ("regions.launch.py", "image:=a//b", "argument image is 'a//b', no name of a topic: write a/b"),
        ("demo.launch.py", "image:=a b", "argument image is 'a b', no name of a topic: it has letters"),
        ("perception.launch.py", "name:=a/b", "argument name is 'a/b', no name of a node: it has letters"),
        ("perception.launch.py", "namespace:=1x", "argument namespace is '1x', no name of a namespace: it begins"),
        ("follow.launch.py", "results:=/front/", "argument results is '/front/', no name of a topic: write /front"),
        ("dashboard.launch.py", "namespace:=a//b", "argument namespace is 'a//b', no name of a namespace: write /a/b"),
        ("demo.launch.py", "width:=wide", "argument width is 'wide', but a whole number is wanted"),
        ("dashboard.launch.py", "port:=some", "argument port is 'some', but a whole number is wanted"),
        ("diagnostics.launch.py", "params_file:=gone.yaml", "argument params_file is 'gone.yaml': there is no such"),
    ],
)
def test_argument_that_cannot_be_is_refused_by_name_before_anything_is_started(
    prefix: Path, tmp_path: Path, name: str, given: str, told: str
):
    source = [f"source:={tmp_path}"] if name == "demo.launch.py" else []
    with launched(prefix, new_domain(), tmp_path / "log", name, given, *source) as process:
        assert process.wait(60) == 1
    text = (tmp_path / "log").read_text()
    assert told in text
    assert "process started" not in text


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("perception.launch.py", ["modle:=a", "model:=gone.onnx", "respawn:=false"], "modle (model?)"),
        ("demo.launch.py", ["modle:=a", "source:=gone.mp4", "namespace:=robot"], "modle (model?)"),
        ("regions.launch.py", ["detektor:=a", "model:=gone.onnx", "namespace:=robot"], "detektor (detector?)"),
        ("follow.launch.py", ["folow:=a", "params_file:=gone.yaml"], "folow (follow?)"),
        ("dashboard.launch.py", ["prt:=1", "port:=some"], "prt (port?)"),
        ("diagnostics.launch.py", ["parms_file:=a", "params_file:=gone.yaml"], "parms_file (params_file?)"),
    ],
)
def test_argument_that_does_not_exist_is_named_and_those_of_an_included_file_are_not(
    prefix: Path, tmp_path: Path, name: str, given: list[str], told: str
):
    with launched(prefix, new_domain(), tmp_path / "log", name, *given) as process:
        assert process.wait(60) == 1
    assert f"launch arguments without effect, because they are unknown: {told}; --" in (tmp_path / "log").read_text()


def test_respawned_node_is_started_again(prefix: Path, tmp_path: Path):
    given = (f"model:={tmp_path}/gone.onnx", "respawn:=true", "respawn_delay:=0.1")
    log = tmp_path / "log"
    with launched(prefix, domain := new_domain(), log, "perception.launch.py", *given), participant(domain) as ros:
        ros.wait_for(lambda: log.read_text().count("process started with pid") > 2, "the third start")


def test_viewer_that_is_not_installed_is_said_with_what_to_install_and_the_node_goes_on(prefix: Path, tmp_path: Path):
    domain = new_domain()
    given = (f"model:={write_tiny_model(tmp_path / 'tiny.onnx')}", "viewer:=foxglove")
    log = tmp_path / "log"
    with participant(domain) as ros, launched(prefix, domain, log, "perception.launch.py", *given):
        answer = ros.call(GetState, "/perception_node/get_state", GetState.Request())
        assert answer.current_state.label in ("unconfigured", "configuring", "inactive", "activating", "active")
    said = [line for line in log.read_text().splitlines() if "foxglove_bridge" in line]
    assert [line.partition("viewer:=")[2] for line in said] == [
        "foxglove: foxglove_bridge is not installed: sudo apt install ros-$ROS_DISTRO-foxglove-bridge"
    ]


@pytest.mark.parametrize(
    ("image", "shown"), [("/front/image_raw", "/front/image_raw"), ("front/image_raw", "/robot/front/image_raw")]
)
def test_rviz_opens_the_shipped_layout_on_the_topics_of_the_node(prefix: Path, tmp_path: Path, image: str, shown: str):
    (prefix / "share" / "ament_index" / "resource_index" / "packages" / "rviz2").touch()
    program = prefix / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\nFOLDER = {str(tmp_path)!r}\n{RVIZ}")
    program.chmod(0o755)
    domain = new_domain()
    given = ("namespace:=robot", f"image:={image}", "viewer:=rviz", f"model:={tmp_path}/gone.onnx")
    with (
        participant(domain) as ros,
        launched(prefix, domain, tmp_path / "log", "perception.launch.py", *given, "on_exit:=ignore"),
    ):
        ros.wait_for((tmp_path / "given").exists, "the start of RViz")
    text = (tmp_path / "given").read_text()
    assert f"-d {ROOT}/launch/layouts/perception.rviz" in text
    assert text.splitlines()[1:] == ["/robot/perception_node/activation/overlay", shown]


def test_params_file_of_the_follower_is_not_overruled_by_what_was_not_given(prefix: Path, tmp_path: Path):
    (tmp_path / "robot.yaml").write_text("/**:\n  ros__parameters:\n    follow: person\n    stamped: true\n")
    domain = new_domain()
    given = (f"params_file:={tmp_path}/robot.yaml", "namespace:=robot", "use_sim_time:=true")
    with participant(domain) as ros, launched(prefix, domain, tmp_path / "log", "follow.launch.py", *given):
        assert values(ros, "/robot/follow_node", "follow", "stamped", "use_sim_time") == ["person", True, True]


@pytest.mark.parametrize(("is_included", "code"), [(False, 1), (True, 0)], ids=["by itself", "in a larger launch"])
@pytest.mark.parametrize(
    ("name", "given"), [("follow.launch.py", "cmd_vel:=/cmd_vel"), ("dashboard.launch.py", "host:=localhost")]
)
def test_node_that_fails_is_the_exit_code_of_its_launch_and_ends_no_larger_one(
    prefix: Path, tmp_path: Path, name: str, given: str, is_included: bool, code: int
):
    larger = tmp_path / "larger.launch.py"
    larger.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "def generate_launch_description():\n"
        f"    return LaunchDescription([IncludeLaunchDescription({str(ROOT / 'launch' / name)!r})])\n"
    )
    path = str(larger) if is_included else name
    with launched(prefix, new_domain(), tmp_path / "log", path, given) as process:
        assert process.wait(60) == code
    assert "exit code 2" in (tmp_path / "log").read_text()


def test_dashboard_shows_the_node_that_is_named_at_the_port_that_is_given(prefix: Path, tmp_path: Path):
    domain = new_domain()
    given = ("perception_node:=/robot/perception_node", "always:=true", "namespace:=robot")
    with participant(domain) as ros, launched(prefix, domain, tmp_path / "log", "dashboard.launch.py", *given):
        shown = values(ros, "/robot/dashboard_node", "perception_node", "always", "host")
        assert shown == ["/robot/perception_node", True, "127.0.0.1"]


@pytest.mark.parametrize(
    ("given", "images", "camera_info"),
    [
        (["image:=/front/image_raw"], "/front/image_raw", "/front/camera_info"),
        (["image:=front/image_raw", "namespace:=robot"], "/robot/front/image_raw", "/robot/front/camera_info"),
        (["namespace:=robot"], "/robot/image_raw", "/robot/camera_info"),
        (["image:=/front/image", "image_transport:=compressed"], "/front/image/compressed", "/front/camera_info"),
    ],
    ids=str,
)
def test_namespaces_and_remappings_take_camera_info_along(
    prefix: Path, tmp_path: Path, given: list[str], images: str, camera_info: str
):
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    log = tmp_path / "log"

    def subscribed(ros) -> set[str]:
        nodes = ros.node.get_node_names_and_namespaces()
        place = next((place for name, place in nodes if name == "perception_node"), None)
        if place is None:
            return set()
        return {topic for topic, _ in ros.node.get_subscriber_names_and_types_by_node("perception_node", place)}

    with participant(domain) as ros, launched(prefix, domain, log, "perception.launch.py", f"model:={model}", *given):
        ros.wait_for(lambda: {images, camera_info} <= subscribed(ros), "both subscriptions")
        other = "/camera_info"
        assert other == camera_info or other not in subscribed(ros)


@pytest.mark.parametrize("false", ["false", "False"])  # Python launch files, as Nav2's, write the second
def test_node_of_a_lifecycle_manager_waits_for_it(prefix: Path, tmp_path: Path, false: str):
    domain = new_domain()
    given = (f"model:={write_tiny_model(tmp_path / 'tiny.onnx')}", f"autostart:={false}")
    with participant(domain) as ros, launched(prefix, domain, tmp_path / "log", "perception.launch.py", *given):
        answer = ros.call(GetState, "/perception_node/get_state", GetState.Request())
        assert answer.current_state.label == "unconfigured"


def test_missing_source_of_the_demo_camera_is_the_exit_code_of_the_launch(prefix: Path, tmp_path: Path):
    given = (f"model:={write_tiny_model(tmp_path / 'tiny.onnx')}", f"source:={tmp_path}/gone.mp4")
    with launched(prefix, new_domain(), tmp_path / "log", "demo.launch.py", *given) as process:
        assert process.wait(60) == 1
    text = (tmp_path / "log").read_text()
    assert "gone.mp4" in text
    assert "camera_node" in text.partition("ended with exit code 2")[0].splitlines()[-1]


def test_demo_camera_has_its_size_frame_and_calibration_beside_the_images(prefix: Path, tmp_path: Path):
    (tmp_path / "images").mkdir()
    Picture.fromarray(np.full((96, 128, 3), 200, np.uint8)).save(tmp_path / "images" / "0.png")
    (tmp_path / "front.yaml").write_text(CALIBRATION)
    domain = new_domain()
    given = (
        f"model:={write_tiny_model(tmp_path / 'tiny.onnx')}",
        f"source:={tmp_path}/images",
        f"camera_info_url:={tmp_path}/front.yaml",
        "width:=64",
        "height:=48",
        "frame_id:=front_optical",
        "rate_hz:=20.0",
        "namespace:=robot",
        "image:=front/image_raw",
    )
    with participant(domain) as ros, launched(prefix, domain, tmp_path / "log", "demo.launch.py", *given):
        infos = ros.collect(CameraInfo, "/robot/front/camera_info")
        images = ros.collect(Image, "/robot/front/image_raw")
        ros.wait_for(lambda: infos and images, "an image and its calibration")
    assert (images[-1].width, images[-1].height, images[-1].header.frame_id) == (64, 48, "front_optical")
    assert (infos[-1].k[0], infos[-1].header.frame_id) == (50.0, "front_optical")


@pytest.mark.parametrize("is_in_file", [False, True], ids=["model given", "model in params_file"])
def test_regions_are_those_of_the_detector_that_is_named(prefix: Path, tmp_path: Path, is_in_file: bool):
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "robot.yaml").write_text(f"/**:\n  ros__parameters:\n    model: {model}\n")
    where = f"params_file:={tmp_path}/robot.yaml" if is_in_file else f"model:={model}"
    given = (where, "detector:=isaac_ros_yolov8")
    with participant(domain) as ros, launched(prefix, domain, tmp_path / "log", "regions.launch.py", *given):
        assert values(ros, "/perception_node", "rois_topic") == ["detections_output"]
        ros.wait_for(lambda: ros.node.count_subscribers("/yolov8_encoder/resize/image"), "its images")
