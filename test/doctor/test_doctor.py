"""Owns: what the doctor says and how it exits beside real processes. Leaves to others: each check by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from doctor_parts import PROFILE, calibration, picture
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from perception import LATCHED
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import ROOT, Participant, new_domain, participant, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from tiny_model import write_tiny_model

from cnn_perception.image.jpeg_encoding import encode_jpeg
from cnn_perception.image.messages import RgbImage


def start(domain: int, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment |= {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)} | variables
    command = [sys.executable, "-m", "cnn_perception.doctor", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = process.communicate(timeout=60)
    assert "Traceback" not in text, text
    return process.returncode, text


def doctor_while(
    ros: Participant, publish: Callable[[], None], domain: int, *arguments: object, **variables: str
) -> tuple[int, str]:
    """Runs the doctor while messages are published, some ten times a second."""
    process = start(domain, *arguments, **variables)

    def is_done() -> bool:
        publish()
        return process.poll() is not None

    ros.wait_for(is_done, "the doctor")
    return ended(process)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def domain() -> int:
    return new_domain()


@pytest.fixture
def ros(domain: int) -> Iterator[Participant]:
    with participant(domain) as one:
        yield one


def test_all_well_while_a_camera_is_answered(ros: Participant, domain: int, model: Path, tmp_path: Path):
    with running("perception_node", domain, tmp_path / "log", model=model, providers="[CPUExecutionProvider]"):
        images = ros.publisher(Image, "image_raw")
        infos = ros.node.create_publisher(CameraInfo, "camera_info", 1)

        def publish() -> None:
            images.publish(picture())
            infos.publish(calibration())

        code, text = doctor_while(ros, publish, domain, "--model", model)
    assert (code, text.splitlines()[-1].partition(",")[0]) in ((0, "all well"), (0, "nothing to mend")), text
    assert f"model: {model}: tiny, multiclass of 3" in text
    assert "ok    node /perception_node: active" in text
    assert "ok    node /perception_node: listens to /image_raw" in text
    assert "ok    topic /image_raw: published by /test as sensor_msgs/msg/Image" in text
    assert "ok    frames of /image_raw: 80x48, rgb8: converted" in text
    assert "ok    topic /camera_info: calibrated" in text
    assert "diagnosis /perception_node: model: running on CPUExecutionProvider" in text
    assert "ok    node /perception_node: nobody else subscribes to its results" in text
    assert "answers while" in text
    assert f"ok    Fast DDS profile: {PROFILE}" in text


def test_what_was_published_once_before_and_kept_is_seen_and_no_sign_of_a_late_camera(
    ros: Participant, domain: int, model: Path, tmp_path: Path
):
    kept = [
        ros.node.create_publisher(kind, name, LATCHED) for kind, name in ((Image, "a"), (CameraInfo, "camera_info"))
    ]
    for publisher, message in zip(kept, (picture(), calibration()), strict=True):
        publisher.publish(message)
    with running("perception_node", domain, tmp_path / "log", "-r", "image_raw:=/a", model=model) as node:
        ros.wait_for(lambda: "active: waiting" in node.log, "the node to be active")
        _, text = doctor_while(ros, lambda: None, domain)
    assert "s but one that was published before, and kept -> a node answers it once" in text
    assert "ok    frames of /a: 80x48, rgb8: converted" in text
    assert "ok    topic /camera_info: calibrated" in text
    assert "old when they arrive" not in text
    assert "no answer while" not in text


def test_each_bad_topic_has_its_own_line(ros: Participant, domain: int):
    odd = ros.node.create_publisher(Image, "odd", 1)
    jpeg = ros.node.create_publisher(CompressedImage, "front/image", 1)
    silent = ros.node.create_publisher(Image, "silent", 1)
    text = ros.node.create_publisher(String, "text", 1)
    topics = ("/odd", "front/image", "/silent", "/text", "/silence")
    code, said = doctor_while(ros, lambda: odd.publish(picture("rgb9", "")), domain, "--image", *topics)
    del jpeg, silent, text
    assert code == 2
    assert "FAIL  frames of /odd: refused (encoding): encoding 'rgb9' is unknown" in said
    assert "as sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image -> set image_transport to compressed" in said
    assert "FAIL  frames of /silent: none in " in said
    assert "FAIL  topic /text: published by /test as std_msgs/msg/String, not sensor_msgs/msg/Image" in said
    assert "FAIL  topic /silence: nobody publishes it -> did you mean /silent?" in said
    assert "warn  node: no perception node runs in this domain" in said


def test_the_topics_of_a_node_are_those_that_it_listens_to_whatever_they_are_called(
    ros: Participant, domain: int, model: Path, tmp_path: Path
):
    """A namespace, a remapping of images, one of a calibration, and a private name; the node's own words for oracle."""
    rules = ("__ns:=/robot", "top/image_raw:=/gantry/image_rect", "rear/camera_info:=/lens/info")
    words = [word for rule in rules for word in ("-r", rule)]
    private = {"left.image_topic": "~/left/image_rect", "left.rectified": True, "rear.image_transport": "compressed"}
    names = "[front, top, rear, left]"
    with running(
        "perception_node",
        domain,
        tmp_path / "log",
        *words,
        model=model,
        providers="[CPUExecutionProvider]",
        cameras=names,
        diagnostics_period_s=0.2,
        **private,
    ):
        said: list[DiagnosticArray] = []
        ros.node.create_subscription(DiagnosticArray, "/diagnostics", said.append, 10)

        def of_cameras() -> dict[str, list[str]]:
            latest = said[-1].status if said else []
            found = {
                one.name: {pair.key: pair.value for pair in one.values} for one in latest if ": camera " in one.name
            }
            return {name: [values["topic"], values["camera_info"]] for name, values in found.items() if values["topic"]}

        ros.wait_for(lambda: len(of_cameras()) == 4, "the node's word")
        node = "/robot/perception_node"
        assert of_cameras() == {
            f"{node}: camera front": ["/robot/front/image_raw", "/robot/front/camera_info"],
            f"{node}: camera top": ["/gantry/image_rect", "/gantry/camera_info"],
            f"{node}: camera rear": ["/robot/rear/image_raw/compressed", "/lens/info"],
            f"{node}: camera left": [f"{node}/left/image_rect", f"{node}/left/camera_info"],
        }
        subscriptions = {
            info.node_name
            for images, camera_info in of_cameras().values()
            for topic in (images, camera_info)
            for info in ros.node.get_subscriptions_info_by_topic(topic)
        }
        assert subscriptions == {"perception_node"}
        raw = [ros.publisher(Image, topic) for topic, _ in of_cameras().values() if not topic.endswith("/compressed")]
        infos = [ros.node.create_publisher(CameraInfo, topic, 1) for _, topic in of_cameras().values()]
        rear = ros.node.create_publisher(CompressedImage, "/robot/rear/image_raw/compressed", 1)
        info = calibration()
        info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
        jpeg = CompressedImage(format="jpeg", data=encode_jpeg(RgbImage(np.zeros((48, 80, 3), np.uint8)), 90))

        def publish() -> None:
            for publisher in raw:
                publisher.publish(picture())
            for publisher in infos:
                publisher.publish(info)
            jpeg.header = picture().header
            rear.publish(jpeg)

        code, text = doctor_while(ros, publish, domain)
    listens = next(line for line in text.splitlines() if "listens to" in line)
    assert set(listens.partition("listens to ")[2].split(", ")) == {
        "/robot/front/image_raw",
        "/gantry/image_rect",
        "/robot/rear/image_raw/compressed",
        f"{node}/left/image_rect",
    }
    for topic in ("/robot/front/camera_info", "/gantry/camera_info", "/lens/info", f"{node}/left/camera_info"):
        assert f"ok    topic {topic}: calibrated" in text
    assert "/robot/rear/camera_info" not in text
    doubts = [line for line in text.splitlines() if "gives raw and rectified images different rays" in line]
    assert len(doubts) == 1
    assert "topic /gantry/camera_info" in doubts[0]  # for the other one the node was told that they are rectified
    assert "the node's parameter rectified is false -> set rectified to true" in doubts[0]
    assert code == 0, text


@pytest.mark.parametrize(("name", "words"), [("a b", "names no topic"), ("~/image", "private to a node")])
def test_what_can_be_no_topic_is_refused_in_one_line(domain: int, name: str, words: str):
    code, text = ended(start(domain, "--image", name))
    assert code == 2
    (line,) = [one for one in text.splitlines() if one.startswith("error: ")]
    assert "--image is" in line
    assert words in line


def test_qos_that_does_not_fit_the_nodes_is_named(ros: Participant, domain: int, model: Path, tmp_path: Path):
    override = ("-p", "qos_overrides./image_raw.subscription.reliability:=reliable")
    with running(
        "perception_node", domain, tmp_path / "log", *override, model=model, providers="[CPUExecutionProvider]"
    ):
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        images = ros.node.create_publisher(Image, "image_raw", best_effort)
        ros.wait_for(lambda: "active:" in (tmp_path / "log").read_text(), "the node")
        code, text = doctor_while(
            ros, lambda: images.publish(picture()), domain, "--image", "image_raw", "--node", "perception_node"
        )
    assert code == 2
    assert "published by /test as sensor_msgs/msg/Image, whose QoS does not fit: Best effort publisher and rel" in text
    assert "FAIL  topic /perception_node/classification: no answer while" in text


def test_a_node_that_is_not_active_is_said_with_the_reason(ros: Participant, domain: int, model: Path, tmp_path: Path):
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "text.onnx")
    path = tmp_path / "link.onnx"
    with running(
        "perception_node", domain, tmp_path / "log", model=path, autostart=False, providers="[CPUExecutionProvider]"
    ):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert not ros.call(ChangeState, "/perception_node/change_state", request).success
        code, text = ended(start(domain, "--seconds", "0.5"))
        assert code == 2
        assert "FAIL  node /perception_node: is unconfigured, so it takes no images" in text
        assert f"FAIL  model: {path}:" in text

        path.unlink()
        path.symlink_to(model)
        assert ros.call(ChangeState, "/perception_node/change_state", request).success
        code, text = ended(start(domain, "--seconds", "0.5", "--node", "/perception_node"))
        assert code == 2
        assert "-> ros2 lifecycle set /perception_node activate" in text
        assert "1 to mend" in text


def test_nothing_is_seen_from_another_domain_and_a_bad_model_is_said(ros: Participant, tmp_path: Path):
    images = ros.node.create_publisher(Image, "image_raw", 1)
    options = ("--model", tmp_path / "absent.onnx", "--seconds", "0.5", "--node", "/perception_node")
    code, text = ended(start(new_domain(), *options, "--image", "/image_raw"))
    del images
    assert code == 2
    assert "absent.onnx: there is no such model file -> make one" in text
    assert "FAIL  node /perception_node: does not run" in text
    assert "nobody publishes it -> no image topic is published: start the camera, with the same ROS_DOMAIN_ID" in text
    assert "3 to mend" in text


def test_without_ros_packages_and_model_are_still_examined(model: Path, tmp_path: Path):
    (tmp_path / "rclpy.py").write_text("raise ModuleNotFoundError('No module named rclpy')")
    code, text = ended(start(1, "--model", model, PYTHONPATH=str(tmp_path)))
    assert code == 2
    assert "FAIL  ROS: rclpy cannot be imported -> source /opt/ros/" in text
    assert "tiny, multiclass of 3" in text
    assert "Fast DDS profile" in text


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ({"RMW_IMPLEMENTATION": "rmw_of_nobody"}, "apt install ros-$ROS_DISTRO-rmw-of-nobody), or unset RMW_IMPLEMENT"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "apt install ros-$ROS_DISTRO-rmw-cyclonedds-cpp)"),
        ({"ROS_DOMAIN_ID": "abc"}, "mend ROS_DOMAIN_ID"),
    ],
)
def test_an_environment_in_which_ros_cannot_start_is_said(variable: dict[str, str], remedy: str):
    code, text = ended(start(1, **variable))
    assert code == 2
    assert "FAIL  ROS: rclpy does not start (" in text
    assert remedy in text
    assert ("Fast DDS profile" in text) == ("RMW_IMPLEMENTATION" not in variable)


def test_ctrl_c_ends_it_quietly(domain: int):
    process = start(domain, "--seconds", "60")
    assert process.stdout is not None
    while "ROS: " not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130


def test_a_reader_that_leaves_does_not_matter(domain: int):
    process = start(domain, ROS_DOMAIN_ID="abc")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ok    Python")
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 2)


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "nan"], ["--transport", "udp"], ["--image"]])
def test_wrong_options_are_refused(arguments: list[str]):
    code, text = ended(start(1, *arguments))
    assert code == 2
    assert "doctor: error: argument" in text
