"""Owns: what a camera of the node subscribes to, counts, warns of and says of itself. The node is a stub.

Leaves to others: that DDS carries the images (test_node_cameras), subscriptions that follow their publishers
(test_latest_subscription), the topics of results (test_publishers).
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from frames import saved
from node_parts import RED, active_model, flat_message
from PIL import Image as PilImage
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from tiny_model import tiny_spec, with_score_map, write_tiny_model

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.diagnostics import CameraStatus
from cnn_perception.perception_node.frame_stages import WantedTopics, answer_frame, infer_frames, prepare_frame
from cnn_perception.perception_node.settings import CameraSettings, Settings
from cnn_perception.ros import latest_subscription
from cnn_perception.ros.transport import profile_variable
from cnn_perception.stream.drift import Drift
from cnn_perception.stream.frame_counters import FrameCounters
from cnn_perception.stream.stamps import Verdict

K = [100.0, 0.0, 39.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0]
CALIBRATED = CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5, k=K)


class StubSubscription:
    """Has messages that the test has put into its queue."""

    def __init__(self, kind: type, topic: str, qos: QoSProfile) -> None:
        self.kind, self.topic, self.qos_profile, self.handle = kind, topic, qos, self
        self.queue: list[Any] = []

    def take_message(self, kind: type, raw: bool) -> Any:
        return (self.queue.pop(0), {}) if self.queue else None


class StubNode:
    """Knows of the publishers in `infos`; nothing can be subscribed whose topic is in `broken`."""

    def __init__(self) -> None:
        self.subscriptions: list[StubSubscription] = []
        self.infos: list[Any] = []
        self.elsewhere: dict[str, list[Any]] = {}  # publishers of other topics
        self.broken = ""
        self.override: ReliabilityPolicy | None = None
        self.context = SimpleNamespace(ok=lambda: True)

    def resolve_topic_name(self, name: str, *, only_expand: bool = False) -> str:
        if " " in name:
            raise rclpy_implementation.RCLError("no blanks, at /project/src/rcl.c:1")
        return name if name.startswith("/") else f"/robot/{name}"

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return self.elsewhere.get(topic, self.infos)

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [(name, [info.topic_type for info in infos]) for name, infos in self.elsewhere.items()]

    def get_fully_qualified_name(self) -> str:
        return "/robot/node"

    def create_subscription(
        self, kind: type, topic: str, callback: object, qos: QoSProfile, *, qos_overriding_options: Any, **_: object
    ) -> StubSubscription:
        if topic == self.broken:
            raise RuntimeError("Unexpected QoS override")
        qos.reliability = self.override if self.override is not None and kind is not CameraInfo else qos.reliability
        assert qos_overriding_options.callback(qos).successful
        self.subscriptions.append(StubSubscription(kind, topic, qos))
        return self.subscriptions[-1]

    def destroy_subscription(self, subscription: StubSubscription) -> None:
        self.subscriptions.remove(subscription)

    @property
    def topics(self) -> dict[str, str]:
        return {one.topic: one.kind.__name__ for one in self.subscriptions}


class StubOutputs:
    """Remembers what was published, in order."""

    def __init__(self) -> None:
        self.published: list[str] = []

    answer_topic = "/node/classification"
    overlay_topic = "/node/activation/overlay/compressed"
    subscribed = WantedTopics(answer=True)

    def wanted(self) -> WantedTopics:
        return self.subscribed

    def publish(self, result: object, settings: object) -> None:
        self.published.append("results")

    def publish_rays(self, header: object, place: object, camera: object) -> None:
        self.published.append("rays")
        self.camera = camera


@pytest.fixture(autouse=True)
def no_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middleware, which a stub has not, says that nothing was lost."""
    told = SimpleNamespace(take=lambda: 0, destroy=lambda: None, is_told=True)
    monkeypatch.setattr(latest_subscription, "_Losses", lambda _: told)


class Bench:
    def __init__(self, name: str = "", given: Sequence[str] = (), **settings: Any) -> None:
        self.node = StubNode()
        self.warned: list[tuple[str, str]] = []
        self.outputs: Any = StubOutputs()
        self.camera = CameraStream(
            self.node,  # type: ignore[arg-type]
            name,
            CameraSettings(**settings),
            lambda key, text: self.warned.append((key, text)),
            given,
        )
        self.camera.outputs = self.outputs

    def silence(self, silence_s: float, timeout_s: float = 3.0) -> str:
        """What is said when no image has come for some time."""
        self.camera.counters.silence_s = lambda: silence_s  # type: ignore[method-assign]
        return self.status(timeout_s=timeout_s).silence

    def status(self, timeout_s: float = 3.0, stalled: str = "") -> CameraStatus:
        self.camera.drift = Drift(tiny_spec())
        return self.camera.status(enabled=True, timeout_s=timeout_s, stalled=stalled)


@pytest.fixture
def model(tmp_path: Path) -> ActiveModel:
    return active_model(write_tiny_model(tmp_path / "dense.onnx", spec=with_score_map(tiny_spec())))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"/robot/image_raw": "Image", "/robot/camera_info": "CameraInfo"}),
        ({"image_topic": "/cam/image"}, {"/cam/image": "Image", "/cam/camera_info": "CameraInfo"}),
        (
            {"image_transport": "compressed"},
            {"/robot/image_raw/compressed": "CompressedImage", "/robot/camera_info": "CameraInfo"},
        ),
    ],
)
def test_images_and_the_camera_info_beside_them_are_subscribed(settings: dict[str, Any], expected: dict[str, str]):
    bench = Bench(**settings)
    bench.camera.subscribe()
    assert bench.node.topics == expected
    assert bench.camera.topic in expected
    bench.camera.unsubscribe()
    bench.camera.unsubscribe()  # harmless
    assert bench.node.topics == {}


def test_name_that_is_none_is_refused_with_the_cameras_parameter():
    bench = Bench("front", image_topic="/cam/image raw")
    with pytest.raises(ConfigError, match=r"^parameter front\.image_topic is '/cam/image raw', .*: it has letters, "):
        bench.camera.subscribe()
    assert bench.node.topics == {}


@pytest.mark.parametrize("broken", ["/robot/image_raw", "/robot/camera_info"])
def test_subscription_that_fails_leaves_none_behind(broken: str):
    bench = Bench()
    bench.node.broken = broken
    with pytest.raises(ConfigError, match=f"^topic {broken}: "):
        bench.camera.subscribe()
    assert bench.node.topics == {}
    assert not bench.status().active


def test_every_activation_counts_anew():
    bench = Bench()
    bench.camera.subscribe()
    bench.camera.counters.receive(1.0)
    bench.camera.drop(FrameError("encoding", "no such encoding"))
    bench.camera.unsubscribe()
    kept = bench.status().snapshot.total
    assert (kept.received, kept.dropped) == (1, {"encoding": 1})
    bench.camera.subscribe()
    total = bench.camera.counters.snapshot(1.0).total
    assert (total.received, total.dropped) == (0, {})


def test_dropped_frames_are_counted_and_warned_of_by_reason():
    bench = Bench("front")
    bench.camera.topic = "/front"
    bench.camera.drop(FrameError("encoding", "no such encoding"))
    bench.camera.drop(FrameError("encoding", "no such encoding"))
    assert bench.warned == [
        ("front encoding", "/front: frame dropped (encoding, 1 so far): no such encoding"),
        ("front encoding", "/front: frame dropped (encoding, 2 so far): no such encoding"),
    ]


def test_odd_stamp_is_counted_and_a_good_one_is_not():
    bench = Bench()
    bench.camera.topic = "/image"
    bench.camera.note_stamp(Verdict(0.1, "", ""))
    bench.camera.note_stamp(Verdict(None, "stamp_zero", "the stamp is zero"))
    assert bench.camera.counters.snapshot(1.0).total.oddities == {"stamp_zero": 1}
    assert bench.warned == [(" stamp_zero", "/image: the stamp is zero (1 so far; answered)")]


@pytest.mark.parametrize(("rate_hz", "period_s"), [(0.0, 0.0), (4.0, 0.25)])
def test_rate_limit_is_a_least_period(rate_hz: float, period_s: float):
    assert Bench(max_rate_hz=rate_hz).camera.min_period_s == period_s


def test_status_is_that_of_the_moment(model: ActiveModel):
    bench = Bench("front")
    bench.camera.use(model.pipeline.model)
    idle = bench.camera.status(enabled=True, timeout_s=3.0)
    assert (idle.active, idle.drift) == (False, None)
    bench.camera.subscribe()
    status = bench.camera.status(enabled=False, timeout_s=2.0)
    assert (status.camera, status.topic, status.active, status.enabled) == ("front", "/robot/image_raw", True, False)
    assert status.timeout_s == 2.0
    assert status.drift is not None


# ---- why no image comes


RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def publisher(
    kind: str = "Image",
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    reliability: ReliabilityPolicy = RELIABLE,
) -> Any:
    qos = QoSProfile(depth=1, reliability=reliability, durability=durability)
    return SimpleNamespace(
        topic_type=f"sensor_msgs/msg/{kind}",
        qos_profile=qos,
        node_name="driver",
        node_namespace="/cam/",
        endpoint_gid=[1] * 16,
    )


def test_nothing_is_said_while_the_node_is_not_active_or_it_is_too_soon():
    bench = Bench()
    assert bench.silence(100.0) == ""
    bench.camera.subscribe()
    assert bench.silence(3.0) == ""


def test_silence_names_the_topic_that_nobody_publishes():
    bench = Bench()
    bench.camera.subscribe()
    assert bench.silence(3.1).startswith("nobody publishes it; check the remapping")


@pytest.mark.parametrize(
    ("transport", "published", "said"),
    [
        (
            "raw",
            {"/robot/image_raw/compressed": "CompressedImage", "/a/image": "Image"},
            "/robot/image_raw/compressed is published: set image_transport to compressed",
        ),
        ("compressed", {"/robot/image_raw": "Image"}, "/robot/image_raw is published: set image_transport to raw"),
        (
            "raw",
            {"/cam/color/image_raw": "Image", "/cam/camera_info": "CameraInfo"},
            "did you mean /cam/color/image_raw? Remap image_raw to it, or set image_topic",
        ),
        ("raw", {f"/{name}/image_raw": "Image" for name in "fedcba"}, "/c/image_raw, /d/image_raw and 2 more; remap"),
        ("raw", {"/cam/camera_info": "CameraInfo"}, "check the remapping of image_raw, and ROS_DOMAIN_ID"),
    ],
)
def test_silence_of_a_topic_that_nobody_publishes_names_where_images_are(
    transport: str, published: dict[str, str], said: str
):
    bench = Bench(image_transport=transport)
    bench.camera.subscribe()
    bench.node.elsewhere = {name: [publisher(kind)] for name, kind in published.items()}
    text = bench.silence(3.1)
    assert text.startswith("nobody publishes it; ")
    assert said in text


def test_of_several_cameras_the_parameters_of_the_silent_one_are_named():
    bench = Bench("front", image_topic="/front/image_raw")
    bench.camera.subscribe()
    assert bench.silence(3.1) == "nobody publishes it; check front.image_topic, and ROS_DOMAIN_ID"
    bench = Bench("front")
    bench.camera.subscribe()
    bench.node.elsewhere = {"/cam/image": [publisher()]}
    assert bench.silence(3.1) == "nobody publishes it; images are published on /cam/image; set front.image_topic"
    bench.node.elsewhere = {"/robot/image_raw/compressed": [publisher("CompressedImage")]}
    assert bench.silence(3.1).endswith("set front.image_transport to compressed")


def test_images_of_the_node_itself_are_none_that_it_could_listen_to():
    bench = Bench()
    bench.camera.subscribe()
    own = publisher("Image")
    own.node_namespace, own.node_name = "/robot", "node"
    bench.node.elsewhere = {"/robot/node/activation/overlay": [own]}
    assert bench.silence(3.1).startswith("nobody publishes it; check the remapping")


def test_silence_names_who_publishes_another_type():
    bench = Bench()
    bench.camera.subscribe()
    bench.node.infos = [publisher("CompressedImage")]
    text = bench.silence(3.1)
    assert "published by /cam/driver (sensor_msgs/msg/CompressedImage, RELIABLE, VOLATILE)" in text
    assert "this node wants sensor_msgs/msg/Image, see the parameter image_transport" in text


@pytest.mark.parametrize(
    ("type_name", "advice"),
    [
        ("foxglove_msgs/msg/CompressedVideo", "ros2 run image_transport republish"),
        ("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "ros2 run image_transport republish"),
        ("theora_image_transport/msg/Packet", "ros2 run image_transport republish"),
        ("foxglove_msgs/msg/CompressedImage", "convert it to sensor_msgs/CompressedImage or Image"),
    ],
)
def test_silence_says_the_way_out_of_packets_of_video(type_name: str, advice: str):
    bench = Bench()
    bench.camera.subscribe()
    offer = publisher()
    offer.topic_type = type_name
    bench.node.infos = [offer]
    text = bench.silence(3.1)
    assert f"{type_name} " in text
    assert advice in text


def test_silence_names_who_has_stopped():
    bench = Bench()
    bench.camera.subscribe()
    bench.node.infos = [publisher()]
    assert bench.silence(3.1).endswith("(sensor_msgs/msg/Image, RELIABLE, VOLATILE); it has sent none yet")
    bench.camera.counters.receive(0.0)
    assert bench.silence(3.1).endswith("(sensor_msgs/msg/Image, RELIABLE, VOLATILE); it has stopped")


def test_silence_of_a_best_effort_camera_may_be_that_all_is_lost_and_names_both_ways_out():
    bench = Bench()
    bench.node.infos = [publisher(reliability=BEST_EFFORT)]
    bench.camera.subscribe()
    text = bench.silence(3.1)
    assert "it has sent none yet, or all of its frames are lost: the camera offers best effort; have it publish" in text
    assert text.endswith(f"launch/fastdds.xml ({profile_variable(os.environ)})")


def test_nothing_is_said_of_the_cameras_silence_while_the_node_stands_still():
    bench = Bench()
    bench.camera.subscribe()
    assert bench.silence(100.0)
    assert bench.status(stalled="inference for 2 s").silence == ""


@pytest.mark.parametrize(
    ("reliability", "override", "first_way", "said"),
    [
        (
            BEST_EFFORT,
            None,
            "have it publish reliable, or give the camera's process the DDS profile",
            "best effort, as",
        ),
        (RELIABLE, None, "have it keep more, or give the camera's process the DDS profile", "reliable, as"),
        (RELIABLE, BEST_EFFORT, "leave them out, or give the camera's process the DDS profile", "best effort, by qos"),
    ],
)
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_both_ways_out_of_losses_are_those_of_the_subscription_which_is_said(
    reliability: ReliabilityPolicy, override: ReliabilityPolicy | None, first_way: str, said: str, transport: str
):
    bench = Bench(image_transport=transport)
    bench.node.override = override
    bench.node.infos = [publisher("CompressedImage" if transport == "compressed" else "Image", reliability=reliability)]
    bench.camera.subscribe()
    status = bench.status()
    assert first_way in status.remedy
    assert f"launch/fastdds.xml ({profile_variable(os.environ)})" in status.remedy
    assert status.subscription.startswith(said)


def test_status_names_the_counts_that_the_middleware_does_not_tell(monkeypatch: pytest.MonkeyPatch):
    bench = Bench()
    assert bench.status().not_counted == ""
    bench.camera.subscribe()
    monkeypatch.setattr(latest_subscription.LatestSubscription, "not_counted", "overtaken: not told")
    assert bench.status().not_counted == "overtaken: not told"


def test_status_says_who_is_not_listened_to():
    bench = Bench()
    bench.camera.subscribe()
    for wanted, unheard, is_wanted in (
        (WantedTopics(answer=True), "", True),
        (WantedTopics(overlay=True), "/node/classification", True),
        (WantedTopics(), "/node/classification", False),
    ):
        bench.outputs.subscribed = wanted
        status = bench.status()
        assert (status.unheard, status.is_wanted) == (unheard, is_wanted)


def test_who_looks_and_finds_nothing_learns_how_long_the_camera_has_been_silent():
    bench = Bench()
    bench.camera.subscribe()
    now_s = time.monotonic()
    bench.camera.counters = FrameCounters(now_s - 100.0)
    bench.camera.counters.receive(now_s - 50.0)
    assert bench.status().silence_s == 0.0  # nobody has looked since
    bench.camera.note_nothing()
    assert 50.0 <= bench.status().silence_s <= 50.0 + time.monotonic() - now_s


# ---- what takes the calibration


def result_of(model: ActiveModel, wanted: WantedTopics, message: Any = None) -> Any:
    shown = flat_message(RED) if message is None else message
    frame: Any = prepare_frame(shown, model, "", "/image", wanted=wanted, has_age=True)
    (inferred,) = infer_frames([frame])
    one: Any = inferred
    camera = Bench().camera
    return answer_frame(one, camera.smoothing, Settings().smoothing, 10**15, 0.0)


@pytest.mark.parametrize(
    ("wanted", "info", "expected"),
    [
        (WantedTopics(answer=True), CALIBRATED, ["results"]),
        (WantedTopics(peak_ray=True), CALIBRATED, ["results", "rays"]),
        (WantedTopics(peak_ray=True), None, ["results"]),
        (WantedTopics(centroid_ray=True, score_map_info=True), CALIBRATED, ["results", "rays"]),
        (WantedTopics(score_map_info=True), CALIBRATED, ["results"]),
        (WantedTopics(centroid_ray=True, score_map_info=True), None, ["results"]),
    ],
)
def test_answer_comes_first_and_what_takes_a_calibration_where_there_is_one(
    model: ActiveModel, wanted: WantedTopics, info: CameraInfo | None, expected: list[str]
):
    bench = Bench()
    bench.camera.subscribe()
    (camera_info,) = [one for one in bench.node.subscriptions if one.kind is CameraInfo]
    camera_info.queue += [info] if info is not None else []
    viewed = bench.camera.publish(result_of(model, wanted), Settings())
    assert bench.outputs.published == expected
    is_wanted = wanted.rays or wanted.score_map_info
    assert viewed.info == (info if is_wanted else None)
    assert len(bench.warned) == (is_wanted and info is None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_turned_as_exif_says_give_no_ray_and_it_is_said(model: ActiveModel, orientation: int):
    bench = Bench()
    bench.camera.subscribe()
    (camera_info,) = [one for one in bench.node.subscriptions if one.kind is CameraInfo]
    camera_info.queue.append(CALIBRATED)
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    data = saved(PilImage.fromarray(np.full((48, 80, 3), RED, np.uint8)), "JPEG", exif=exif)
    message = SimpleNamespace(header=flat_message(RED).header, format="jpeg", data=data)
    wanted = WantedTopics(peak_ray=True, score_map_info=True)
    viewed = bench.camera.publish(result_of(model, wanted, message), Settings())
    if orientation == 1:
        assert (bench.outputs.published, viewed.info) == (["results", "rays"], CALIBRATED)
        return
    assert (bench.outputs.published, viewed.info) == (["results"], None)
    ((key, text),) = bench.warned
    assert key.endswith("turned")
    assert "no ray can be told on /robot/image_raw: the images are turned as their EXIF orientation says" in text


@pytest.mark.parametrize(
    ("frame_id", "has_ray"),
    [("optical", True), ("/optical", True), ("", True), ("camera_link", False), ("optical_2", False)],
)
def test_a_calibration_of_another_frame_than_the_images_gives_no_ray_and_both_are_named(
    model: ActiveModel, frame_id: str, has_ray: bool
):
    """The images are of the frame `optical`."""
    bench = Bench()
    info = copy.deepcopy(CALIBRATED)
    info.header.frame_id = frame_id
    viewed = shown(bench, model, info)
    assert bench.outputs.published == (["results", "rays"] if has_ray else ["results"])
    assert (viewed.info is not None) == has_ray
    assert len(bench.warned) == (not has_ray)
    for _, text in bench.warned:
        assert text.startswith("no ray can be told: the images are in the frame 'optical', /robot/camera_info is in ")
        assert f"'{frame_id}'; have the driver give both" in text


def test_a_driver_that_mends_its_frame_has_rays_from_then_on(model: ActiveModel):
    bench = Bench()
    wrong, right = copy.deepcopy(CALIBRATED), copy.deepcopy(CALIBRATED)
    wrong.header.frame_id, right.header.frame_id = "camera_link", "optical"
    shown(bench, model, wrong)
    (camera_info,) = [one for one in bench.node.subscriptions if one.kind is CameraInfo]
    camera_info.queue.append(right)
    bench.camera.publish(result_of(model, WantedTopics(peak_ray=True)), Settings())
    assert bench.outputs.published == ["results", "results", "rays"]


# A lens of plumb bob; rectify_node publishes this message beside image_raw and beside image_rect alike.
DISTORTED = CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[-0.3, 0.1, 0.0, 0.0, 0.0], k=K)
DISTORTED.r = np.eye(3).ravel()
DISTORTED.p = [90.0, 0.0, 40.5, 0.0, 0.0, 95.0, 22.5, 0.0, 0.0, 0.0, 1.0, 0.0]
PIXEL = (70.0, 8.0)


def shown(bench: Bench, model: ActiveModel, info: CameraInfo, frames: int = 1) -> Any:
    bench.camera.subscribe()
    (camera_info,) = [one for one in bench.node.subscriptions if one.kind is CameraInfo]
    camera_info.queue.append(info)
    for _ in range(frames):
        viewed = bench.camera.publish(result_of(model, WantedTopics(peak_ray=True, score_map_info=True)), Settings())
    return viewed


def in_raw_image(ray: np.ndarray) -> np.ndarray:
    """The pixel at which a direction is seen, by OpenCV."""
    pixels, _ = cv2.projectPoints(
        ray.reshape(1, 1, 3), np.zeros(3), np.zeros(3), np.array(K).reshape(3, 3), np.array(DISTORTED.d)
    )
    return pixels.ravel()


def in_rectified_image(ray: np.ndarray) -> np.ndarray:
    """The same, by P and nothing else."""
    u, v, w = DISTORTED.p.reshape(3, 4) @ np.append(ray, 0.0)
    return np.array([u / w, v / w])


@pytest.mark.parametrize("is_rectified", [False, True])
def test_rays_of_a_matrix_that_may_be_of_another_size_are_told_and_doubted_once(model: ActiveModel, is_rectified: bool):
    """P, which rectified images have, may have its centre elsewhere."""
    info = copy.deepcopy(DISTORTED)
    info.k = [80.0, 0.0, 31.5, 0.0, 80.0, 18.5, 0.0, 0.0, 1.0]  # of 64x38
    bench = Bench(image_topic="images", rectified=is_rectified)
    shown(bench, model, info, frames=3)
    assert bench.outputs.published == ["results", "rays"] * 3
    told = [text for key, text in bench.warned if key == " calibration"]
    assert len(told) == (0 if is_rectified else 1)
    assert all("/robot/camera_info: K has its principal point at (31.5, 18.5)" in text for text in told)


@pytest.mark.parametrize("topic", ["image_rect", "/left/image_rect_color", "/zed/rect/image"])
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_rectified_images_beside_the_calibration_of_raw_ones_have_no_ray_until_somebody_decides(
    model: ActiveModel, topic: str, transport: str
):
    bench = Bench(image_topic=topic, image_transport=transport)
    viewed = shown(bench, model, DISTORTED)
    assert (bench.outputs.published, viewed.info) == (["results"], None)
    ((_, text),) = bench.warned
    assert "named as rectified images are" in text
    assert "rectified: true (P), or, if the images are raw ones, false (K and D)" in text


@pytest.mark.parametrize(
    ("topic", "rectified", "given", "seen_at", "said"),
    [
        ("image_rect", True, ["rectified"], in_rectified_image, ""),
        ("image_rect", False, ["rectified"], in_raw_image, "if they are, set it to true"),
        ("image_raw", False, [], in_raw_image, ""),
        ("image_raw", True, ["rectified"], in_rectified_image, "if they are, set it to false"),
        ("image", True, ["rectified"], in_rectified_image, ""),
        ("image", False, [], in_raw_image, ""),
    ],
)
def test_the_ray_is_that_of_the_images_which_the_user_says_they_are(
    model: ActiveModel, topic: str, rectified: bool, given: list[str], seen_at: Any, said: str
):
    bench = Bench(image_topic=topic, rectified=rectified, given=given)
    shown(bench, model, DISTORTED, frames=3)
    ray = bench.outputs.camera.ray(*PIXEL)
    np.testing.assert_allclose(seen_at(ray), PIXEL, atol=1e-6)
    assert np.abs(in_raw_image(ray) - in_rectified_image(ray)).max() > 1.0  # the wrong one is seen to be wrong
    assert bench.outputs.published == ["results", "rays"] * 3
    assert len(bench.warned) == bool(said)
    assert all(said in text for _, text in bench.warned)


@pytest.mark.parametrize(("name", "given"), [("", "rectified"), ("front", "front.rectified"), ("front", "rectified")])
def test_a_parameter_that_is_set_to_its_default_is_a_decision(model: ActiveModel, name: str, given: str):
    bench = Bench(name, image_topic="image_rect")
    shown(bench, model, DISTORTED)
    assert bench.outputs.published == ["results"]
    bench.camera.note_given(["encoding", f"other.{given}"])
    bench.camera.publish(result_of(model, WantedTopics(peak_ray=True)), Settings())
    assert bench.outputs.published == ["results"] * 2
    bench.camera.note_given([given])
    bench.camera.publish(result_of(model, WantedTopics(peak_ray=True)), Settings())
    assert bench.outputs.published == ["results"] * 3 + ["rays"]


def test_rectified_images_of_a_camera_without_distortion_have_their_ray(model: ActiveModel):
    bench = Bench(image_topic="/infra1/image_rect_raw")
    shown(bench, model, CALIBRATED)
    assert (bench.outputs.published, bench.warned) == (["results", "rays"], [])


def test_the_camera_info_of_rectified_images_gives_their_rays_to_whoever_reads_it(model: ActiveModel):
    """The score map is published with it, under a name that says nothing of rectified images."""
    viewed = shown(Bench(image_topic="image_rect", rectified=True, given=["rectified"]), model, DISTORTED)
    for flag in (False, True):
        read = CameraModel.from_message(viewed.info, "read by a tool", flag)
        np.testing.assert_allclose(in_rectified_image(read.ray(*PIXEL)), PIXEL, atol=1e-6)
