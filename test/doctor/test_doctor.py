"""Owns: what the doctor says and how it exits: each check by itself, then situations with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import ROOT, Participant, new_domain, participant, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from tiny_model import write_tiny_model

from cnn_perception.doctor import machine, nodes
from cnn_perception.doctor import topics as topic_checks
from cnn_perception.doctor.finding import Finding, exit_code
from cnn_perception.doctor.topics import Publisher, ReceivedFrames

RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
NOW_NS = 1_700_000_000 * 10**9
PROFILE = ROOT / "launch" / "fastdds.xml"


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def lines(findings: Iterator[Finding]) -> str:
    return "\n".join(map(str, findings))


# ---- findings


def test_a_finding_is_one_line_and_any_failure_is_the_users_to_mend():
    fine = Finding("ok", "cv2", "5.0")
    doubtful = Finding("warn", "a b", "two\n  lines", "mend it")
    assert [str(fine), str(doubtful)] == ["ok    cv2: 5.0", "warn  a b: two lines -> mend it"]
    assert exit_code([fine, doubtful]) == 0
    assert exit_code([fine, Finding("FAIL", "a", "b"), doubtful]) == 2


# ---- the machine


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "ok    ROS_DOMAIN_ID: not set, so 0"),
        ({"ROS_DOMAIN_ID": "7"}, "ok    ROS_DOMAIN_ID: 7;"),
        ({"ROS_DOMAIN_ID": "102"}, "warn  ROS_DOMAIN_ID: 102 can collide"),
        ({"ROS_DOMAIN_ID": "233"}, "FAIL  ROS_DOMAIN_ID: '233' is no domain"),
        ({"ROS_DOMAIN_ID": "-1"}, "FAIL  ROS_DOMAIN_ID: '-1' is no domain"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "FAIL  ROS_AUTOMATIC_DISCOVERY_RANGE: OFF"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "ok    ROS_AUTOMATIC_DISCOVERY_RANGE: LOCALHOST: a camera on"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "local"}, "warn  ROS_AUTOMATIC_DISCOVERY_RANGE: 'local' is no value"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "warn  ROS_LOCALHOST_ONLY: 1"),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "ok    RMW_IMPLEMENTATION: rmw_zenoh_cpp; the camera's"),
    ],
)
def test_environment(variables: dict[str, str], said: str):
    assert said in lines(machine.check_environment(variables))


def profile(path: Path, segment: str, *, kind: str = "SHM", default: str = "true", used: str = "shm") -> Path:
    path.write_text(
        f"""<?xml version="1.0"?><dds xmlns="http://www.eprosima.com"><profiles><transport_descriptors>
        <transport_descriptor><transport_id>shm</transport_id><type>{kind}</type>{segment}</transport_descriptor>
        <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
        </transport_descriptors><participant profile_name="p" is_default_profile="{default}"><rtps><userTransports>
        <transport_id>{used}</transport_id></userTransports></rtps></participant></profiles></dds>"""
    )
    return path


def test_segment_is_the_one_of_the_shared_memory_that_the_default_participant_uses(tmp_path: Path):
    size = "<segment_size>4000000</segment_size>"
    sizes = [
        machine.shared_segment_bytes(one)
        for one in (
            PROFILE,
            profile(tmp_path / "a", size),
            profile(tmp_path / "b", ""),
            profile(tmp_path / "c", size, kind="UDPv4"),
            profile(tmp_path / "d", size, default="false"),
            profile(tmp_path / "e", size, used="udp"),
        )
    ]
    assert sizes == [64 * 2**20, 4_000_000, 2**19, 2**19, 2**19, 2**19]


def test_profile_must_be_there_be_xml_and_hold_an_image(tmp_path: Path):
    def said(path: object, frame_bytes: int = 921_600, **more: str) -> str:
        variables = {"FASTDDS_DEFAULT_PROFILES_FILE": str(path)} | more
        return lines(machine.check_profile(variables, frame_bytes))

    (tmp_path / "text").write_text("no xml")
    assert "FAIL  Fast DDS profile: /nowhere.xml cannot be read (No such file or directory)" in said("/nowhere.xml")
    assert "cannot be read (Is a directory)" in said(tmp_path)
    assert "is no Fast DDS profile" in said(tmp_path / "text")
    assert "is no Fast DDS profile" in said(profile(tmp_path / "odd", "<segment_size>big</segment_size>"))
    small = said(profile(tmp_path / "small", ""))
    assert "shared memory of 512 KiB is smaller than one image of 900 KiB, so most images are lost" in small
    assert f"export FASTDDS_DEFAULT_PROFILES_FILE={PROFILE}" in small
    assert said(PROFILE).startswith(f"ok    Fast DDS profile: {PROFILE}: 64.0 MiB of shared memory")
    assert said(PROFILE, 2**27).startswith("FAIL")
    assert said("/nowhere.xml", RMW_IMPLEMENTATION="rmw_zenoh_cpp").startswith("ok")
    assert said(PROFILE, ROS_DISTRO="humble").startswith("warn  Fast DDS profile: none in this shell")
    assert "export FASTRTPS_DEFAULT_PROFILES_FILE=" in said(PROFILE, ROS_DISTRO="humble")


def test_shared_memory_must_hold_a_segment(tmp_path: Path):
    assert only(machine.check_shared_memory(tmp_path, 1)).level == "ok"
    full = only(machine.check_shared_memory(tmp_path, 2**60))
    assert (full.level, "--shm-size" in full.remedy) == ("FAIL", True)
    assert only(machine.check_shared_memory(tmp_path / "no", 1)).text == "cannot be used (No such file or directory)"


def test_slow_matrix_products_of_numpy_are_named():
    line = "7f2c000-7f2d000 r-xp 00000000 08:01 42 /usr/lib/x86_64-linux-gnu/{}/libblas.so.3.11.0\n"
    assert only(machine.check_blas(line.format("blas"))).remedy == "apt install libopenblas0"
    assert not list(machine.check_blas(line.format("openblas-pthread")))
    own = Path("/proc/self/maps").read_text()  # numpy's wheel brings OpenBLAS, whatever else is loaded
    assert "openblas" not in own or not list(machine.check_blas(own))


def test_a_package_that_is_missing_damaged_or_installed_twice_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))  # what pip leaves of two of them
    said = lines(machine.check_packages({"onnxruntime": "1", "onnxruntime-gpu": "1", "opencv-python": "5"}))
    assert "ok    numpy: " + np.__version__ in said
    assert "FAIL  simplejpeg: cannot be imported (import of simplejpeg halted" in said
    assert "-> pip install simplejpeg" in said
    assert "FAIL  onnxruntime: its files are missing, an empty folder is left -> pip uninstall onnxruntime" in said
    assert "warn  onnxruntime: onnxruntime and onnxruntime-gpu are both installed" in said
    assert "opencv" not in said


def test_model_is_loaded_run_and_described_or_refused_with_what_to_do(tmp_path: Path):
    good = lines(machine.check_model(write_tiny_model(tmp_path / "tiny.onnx")))
    assert "tiny.onnx: tiny, multiclass of 3, 32x24; loaded and warmed up in" in good
    assert "provider: runs on CPUExecutionProvider" in good
    (tmp_path / "text.onnx").write_text("no model")
    bad = only(machine.check_model(tmp_path / "text.onnx"))
    assert (bad.level, bad.subject) == ("FAIL", "model")
    assert "text.onnx" in bad.text
    assert bad.remedy
    nowhere = only(machine.check_model(Path("~nobody_of_this_name/a.onnx")))
    assert (nowhere.level, nowhere.remedy) == ("FAIL", "write the whole path")
    assert "there is no user 'nobody_of_this_name'" in nowhere.text


# ---- a topic

NOBODY = "FAIL  topic /image_raw: nobody publishes it -> "


@pytest.mark.parametrize(
    ("wanted", "publishers", "others", "said"),
    [
        (RAW, [], {}, f"{NOBODY}no image topic is published: start the camera, with the same ROS_DOMAIN_ID"),
        (RAW, [], {"/image_rav": RAW}, f"{NOBODY}did you mean /image_rav?"),
        (RAW, [], {"/front/left/camera/image_raw": RAW}, "did you mean /front/left/camera/image_raw?"),
        (RAW, [], {"/image_raw/compressed": JPEG}, "published: set image_transport to compressed"),
        (RAW, [], {"/usb": RAW, "/top": JPEG}, f"{NOBODY}there are image topics: /top, /usb"),
        (RAW, [Publisher("/cam", RAW)], {}, "ok    topic /image_raw: published by /cam as sensor_msgs/msg/Image"),
        (RAW, [Publisher("/cam", JPEG)], {}, "Image -> set image_transport to compressed, with /image_raw as"),
        (JPEG, [Publisher("/cam", RAW)], {}, "CompressedImage -> set image_transport to raw"),
        (RAW, [Publisher("/cam", "std_msgs/msg/String")], {}, "FAIL  topic /image_raw: published by /cam as std_msgs"),
        (RAW, [Publisher("/c", RAW, "Best effort publisher")], {}, "whose QoS does not fit: Best effort publisher ->"),
        (RAW, [Publisher("/cam", RAW), Publisher("/d", JPEG)], {}, "warn  topic /image_raw: published by /d as"),
        (RAW, [Publisher("/cam", RAW), Publisher("/d", RAW)], {}, "warn  topic /image_raw: 2 publishers at once"),
    ],
)
def test_publishers(wanted: str, publishers: list[Publisher], others: dict[str, str], said: str):
    assert said in lines(topic_checks.check_publishers("/image_raw", wanted, publishers, others))


def picture(encoding: str = "rgb8", frame_id: str = "camera", second: int | None = None) -> Image:
    message = Image(height=48, width=80, encoding=encoding, step=240, data=array("B", bytes(48 * 240)))
    now_ns = time.time_ns() if second is None else second * 10**9
    message.header = Header(frame_id=frame_id, stamp=Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9))
    return message


def calibration(width: int = 80, height: int = 48, focal: float = 100.0) -> CameraInfo:
    k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0] if focal else [0.0] * 9
    return CameraInfo(width=width, height=height, k=k, distortion_model="plumb_bob")


def frames(ages_s: Sequence[float], message: Image | None = None, **more: Any) -> ReceivedFrames:
    """Frames at 10 Hz with stamps of these ages."""
    arrived = [NOW_NS + number * 10**8 for number in range(len(ages_s))]
    times_ns = [(max(ns - round(age_s * 1e9), 0), ns) for ns, age_s in zip(arrived, ages_s, strict=True)]
    settings = {
        "duration_s": 2.0,
        "latest": message or picture(),
        "times_ns": times_ns,
        "camera_info": calibration(),
    } | more
    return ReceivedFrames("/front/image_raw", **settings)


@pytest.mark.parametrize(
    ("received", "said"),
    [
        (frames([0.01] * 11), "ok    frames of /front/image_raw: 11 in 2.0 s (10.0 Hz), 0.01 MiB each"),
        (frames([0.01] * 11), "ok    frames of /front/image_raw: 80x48, rgb8: converted"),
        (frames([0.01, 0.05]), "ok    frames of /front/image_raw: 50 ms old at most"),
        (frames([0.01]), "ok    topic /front/camera_info: calibrated, plumb_bob"),
        (ReceivedFrames("/front/image_raw", 2.0), "FAIL  frames of /front/image_raw: none in 2.0 s"),
        (frames([0.01], picture("rgb9")), "FAIL  frames of /front/image_raw: refused (encoding): encoding 'rgb9'"),
        (frames([0.01], picture(frame_id="")), "warn  frames of /front/image_raw: frame_id is empty"),
        (frames([12.5, 12.0]), "warn  frames of /front/image_raw: they are 12.0 s old when they arrive"),
        (frames([2e9, 2e9]), "warn  frames of /front/image_raw: stamp_zero in 2 of 2"),
        (frames([0.1, -5.0]), "warn  frames of /front/image_raw: stamp_future in 1 of 2"),
        (frames([0.01] * 10, sent=40), "warn  frames of /front/image_raw: 30 of 40 that were sent did not arrive"),
        (frames([0.01], camera_info=None), "warn  topic /front/camera_info: nothing arrives"),
        (frames([0.01], camera_info=calibration(focal=0)), "warn  topic /front/camera_info: the camera is not calib"),
        (frames([0.01], camera_info=calibration(640, 480)), "is for 640x480, the images have 80x48"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_frames(received: ReceivedFrames, said: str):
    assert said in lines(topic_checks.check_frames(received))


def test_good_frames_are_only_praised():
    assert {finding.level for finding in topic_checks.check_frames(frames([0.01] * 5, sent=5))} == {"ok"}


def test_camera_info_lies_beside_the_images():
    topics = ["/image_raw", "/front/image_raw/compressed"]
    assert [topic_checks.camera_info_of(topic) for topic in topics] == ["/camera_info", "/front/camera_info"]


# ---- a node


@pytest.mark.parametrize(
    ("state", "level", "said"),
    [
        ("active", "ok", "active"),
        ("inactive", "FAIL", "is inactive, so it takes no images -> ros2 lifecycle set /eye activate"),
        ("unconfigured", "FAIL", "ros2 lifecycle set /eye configure"),
        ("activating", "FAIL", "wait"),
        ("", "FAIL", "does not answer"),
    ],
)
def test_state(state: str, level: str, said: str):
    finding = nodes.check_state("/eye", state)
    assert finding.level == level
    assert said in str(finding)


def test_absent_node_is_a_failure_only_if_it_was_asked_for():
    assert nodes.check_presence("", ["/camera"]).level == "warn"
    assert "did you mean /perception_node?" in str(nodes.check_presence("/perception_nod", ["/perception_node"]))
    assert "did you mean /front/eye?" in str(nodes.check_presence("/eye", ["/camera", "/front/eye"]))
    assert "is no perception node" in str(nodes.check_presence("/camera", ["/camera"]))


@pytest.mark.parametrize(
    ("asked", "subscribed", "said"),
    [
        ([], ["/image_raw"], "ok    node /eye: listens to /image_raw"),
        (["/front/image/compressed"], ["/image_raw"], "FAIL  node /eye: does not listen to /front/image/compressed ->"),
        ([], [], "warn  node /eye: listens to no image topic"),
    ],
)
def test_subscriptions(asked: list[str], subscribed: list[str], said: str):
    assert said in lines(nodes.check_subscriptions("/eye", asked, subscribed))


def output(**more: Any) -> nodes.NodeOutput:
    status = DiagnosticStatus(level=DiagnosticStatus.ERROR, name="/eye: camera", message="no image for 4.0 s")
    status.values = [KeyValue(key="dropped: encoding", value="7"), KeyValue(key="received", value="9")]
    settings = {"statuses": {status.name: status}, "result_counts": {"/eye/classification": 0}, "subscribers": 1} | more
    return nodes.NodeOutput(**settings)


@pytest.mark.parametrize(
    ("published", "frames", "said"),
    [
        (output(), 5, "FAIL  diagnosis /eye: camera: no image for 4.0 s; dropped: encoding 7"),
        (output(), 5, "FAIL  topic /eye/classification: no answer while 5 images arrived here"),
        (output(), 0, "ok    topic /eye/classification: 0 answers while 0 images"),
        (
            output(result_counts={"/eye/classification": 3}),
            5,
            "ok    topic /eye/classification: 3 answers while 5 images",
        ),
        (output(subscribers=0), 5, "ok    node /eye: nobody else subscribes to its results"),
        (output(statuses={}), 5, "warn  node /eye: says nothing on /diagnostics"),
        (
            output(incompatible=["/rviz on /eye/activation: Durability"]),
            5,
            "FAIL  node /eye: cannot reach a subscriber, /rviz",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_output(published: nodes.NodeOutput, frames: int, said: str):
    assert said in lines(nodes.check_output("/eye", published, frames))


# ---- situations


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
    assert (code, text.splitlines()[-1]) == (0, "all well"), text
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


@pytest.mark.parametrize("variable", [{"RMW_IMPLEMENTATION": "rmw_of_nobody"}, {"ROS_DOMAIN_ID": "abc"}])
def test_an_environment_in_which_ros_cannot_start_is_said(variable: dict[str, str]):
    code, text = ended(start(1, **variable))
    assert code == 2
    assert "FAIL  ROS: rclpy does not start (" in text


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
