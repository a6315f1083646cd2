"""One replay: the node is started, gets ready, is played the bag, and settles; then it is ended, whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rclpy.impl.implementation_singleton import rclpy_implementation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from tqdm import tqdm
from vision_msgs.msg import Classification

from cnn_perception.bag.message_types import COMPRESSED_IMAGE_TYPE
from cnn_perception.bag.offered_qos import OfferedQos, offered_qos
from cnn_perception.bag.reader import Bag, Topic
from cnn_perception.errors import ConfigError, DataError, one_line
from cnn_perception.image.messages import AS_SENT, Overrides
from cnn_perception.live_replay.accounts import NodeCounts
from cnn_perception.live_replay.domain import free_domain, local_environment
from cnn_perception.live_replay.node_process import NodeProcess, Usage
from cnn_perception.live_replay.participant import Heard, NodeEndedError, Participant, StartError
from cnn_perception.live_replay.timeline import Due, PlayedFrame, Timeline, due_messages
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS
from cnn_perception.ros import given_parameters, topics, transport
from cnn_perception.tasks.rules import TaskRules

_ROBOT = "/perception_node"
_COMPRESSED = "/compressed"
_NAME = re.compile("(/[A-Za-z_][A-Za-z0-9_]*)+")
_ANY_NAME = "/camera/image_raw"
"""For images whose topic has a name that ROS 2 does not take, such as those of other systems."""
_TICK_S = 0.01
"""Between two messages of /clock: no frame is judged older or younger by more than that, times the rate."""
_QUIET_DIAGNOSES = 3
"""After so many diagnoses without a change nothing more is coming."""


@dataclass(frozen=True)
class NodeOptions:
    """How the node is started.

    Attributes:
        model: Its model file.
        params: A parameter file; None for none.
        start_limit_s: Seconds after which it has failed if it is not active.
        overrides: What is known better of the images than they say themselves; as they are, the node decides.
        providers: ONNX Runtime execution providers; the default leaves them to the node.

    Raises:
        ConfigError: If there is no such parameter file, or the limit is none.
    """

    model: Path
    params: Path | None = None
    start_limit_s: float = 120.0
    overrides: Overrides = AS_SENT
    providers: Sequence[str] = DEFAULT_PROVIDERS

    def __post_init__(self) -> None:
        if self.params is not None and not self.params.is_file():
            raise ConfigError(f"--params {self.params}: there is no such file; name a parameter file of the node")
        if not 0.0 < self.start_limit_s < float("inf"):
            raise ConfigError(f"--start-limit is {self.start_limit_s}; choose seconds above 0")

    @property
    def robot(self) -> str:
        """Fully qualified name of the node: the one of which the file has parameters, else `/perception_node`."""
        names = given_parameters.nodes_of_file(self.params) if self.params else []
        if not names or any(given_parameters.matches(name, _ROBOT) for name in names):
            return _ROBOT
        own = [name for name in names if "*" not in name and name.endswith(_ROBOT)]
        return own[0] if own else _ROBOT


@dataclass(frozen=True)
class ImageRoute:
    """Where the images of a bag are published, and what the node is told of it.

    Attributes:
        topic: Where they are published.
        base: The node's `image_topic`.
        is_compressed: Whether they are sensor_msgs/CompressedImage.
    """

    topic: str
    base: str
    is_compressed: bool

    @classmethod
    def of(cls, images: Topic) -> ImageRoute:
        """Returns the route of a bag's topic: a name that ROS 2 takes and that ends as image_transport wants it."""
        name = "/" + images.name.strip("/")
        name = name if _NAME.fullmatch(name) else _ANY_NAME
        if images.type != COMPRESSED_IMAGE_TYPE:
            return cls(name, name, is_compressed=False)
        base = name.removesuffix(_COMPRESSED) or name
        return cls(f"{base}{_COMPRESSED}", base, is_compressed=True)

    @property
    def camera_info(self) -> str:
        """Topic of the calibration, beside the images."""
        return f"{self.base.rpartition('/')[0]}/camera_info"


@dataclass(frozen=True)
class NodeSettings:
    """What the node's parameters say of its answers; see `perception_node.settings`."""

    smoothing_s: float
    hysteresis: float
    hold_s: float
    top_k: int
    threshold: float
    providers: Sequence[str]
    diagnostics_period_s: float
    encoding: str
    significant_bits: int
    max_rate_hz: float
    max_age_s: float

    @property
    def is_smoothed(self) -> bool:
        """Whether an answer depends on the frames before."""
        return bool(self.smoothing_s or self.hysteresis or self.hold_s)


_OF_CAMERA = ("encoding", "significant_bits", "max_rate_hz", "max_age_s")


@dataclass
class LiveRun:
    """What happened in a replay; it grows while it runs.

    Attributes:
        topic: Of the answers.
        route: Where the images were published.
        camera: Name of the node's camera; empty for the only one.
        timeline: Which time of the bag it was at each moment.
        settings: Of the node.
        offered: With which QoS the images were published.
        said: Warnings and errors in the node's log.
        answers: What was answered.
        raw: The same before smoothing.
        waiting: Between which lines of its log the node waited for the first image.
        played: The images that were published.
        unreadable: Images that were passed over.
        counts: What the node says became of them.
        usage: What the node has used while it was played to.
        seconds: So long it was played to.
        failure: Why it ended early; empty if it did not.
        interrupted: Whether Ctrl-C ended it.
    """

    topic: str
    route: ImageRoute
    camera: str
    timeline: Timeline
    settings: NodeSettings
    offered: OfferedQos
    answers: list[Heard]
    raw: list[Heard]
    waiting: tuple[int, int]
    said: list[str] = field(default_factory=list)
    played: list[PlayedFrame] = field(default_factory=list)
    unreadable: int = 0
    counts: NodeCounts = field(default_factory=NodeCounts)
    usage: Usage = field(default_factory=lambda: Usage(0.0, 0.0))
    seconds: float = 0.0
    failure: str = ""
    interrupted: bool = False


def run_live(
    bag: Bag,
    images: Topic,
    task: TaskRules,
    rate: float,
    options: NodeOptions,
    log: Path,
    tell: Callable[[str], None],
) -> LiveRun:
    """Replays the images of a bag to a node.

    Args:
        bag: The open bag.
        images: Its image topic.
        task: Of the model.
        rate: How many times faster than recorded.
        options: How the node is started.
        log: File for all that it prints.
        tell: Is told when the replay begins.

    Raises:
        DataError: If the bag has no image that can be played, or the node does not get ready.
    """
    route = ImageRoute.of(images)
    due = due_messages(bag, images, route.camera_info)
    first = next(due, None)
    if first is None:
        raise DataError(f"{bag.path}: {images.name} has no image that can be read; record it again")
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(free_domain())
        logs = stack.enter_context(tempfile.TemporaryDirectory(prefix="cnn_perception_live_"))
        stack.enter_context(_environment({"ROS_LOG_DIR": logs, **local_environment(domain)}))
        try:
            participant = Participant(domain, options.robot)
        except rclpy_implementation.RCLError as error:
            raise ConfigError(f"ROS 2 cannot be started ({one_line(error)}); see ROS 2's own settings") from None
        stack.callback(participant.close)
        player = _Player(participant, bag.path, images, route)
        arguments = _arguments(options, route, Path(logs) / "replay.yaml")
        node = stack.enter_context(NodeProcess(arguments, os.environ, log, participant.note_end))
        timeline = Timeline(first.recorded.log_time_ns, rate)
        run = _ready(participant, node, player, task, timeline, options)
        text = f"playing {images.count} images to {options.robot}, process {node.pid}, in ROS domain {domain}"
        messages = tqdm(itertools.chain([first], due), desc="playing", unit="message", disable=None)
        _play(participant, node, player, run, messages, lambda: tell(text))
    return run


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Has this process, and those it starts, see other environment variables for a while."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        os.environ.update(transport.environment())
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _arguments(options: NodeOptions, route: ImageRoute, file: Path) -> list[str]:
    """Returns the node's ROS arguments: what a replay needs is in a file of its own, which wins over the user's."""
    namespace, _, name = options.robot.rpartition("/")
    parameters: dict[str, object] = {
        "model": str(options.model.resolve()),
        "autostart": True,
        "use_sim_time": True,
        "image_topic": route.base,
        "image_transport": "compressed" if route.is_compressed else "raw",
        "record_folder": "",
    }
    if options.overrides.encoding:
        parameters["encoding"] = options.overrides.encoding
    if options.overrides.significant_bits:
        parameters["significant_bits"] = options.overrides.significant_bits
    if tuple(options.providers) != tuple(DEFAULT_PROVIDERS):
        parameters["providers"] = list(options.providers)
    arguments = ["-r", f"__node:={name}", "-r", f"__ns:={namespace or '/'}"]
    arguments += ["--params-file", str(options.params)] if options.params else []
    file.write_text(json.dumps({options.robot: {"ros__parameters": parameters}}))  # which is YAML, too
    return [*arguments, "--params-file", str(file)]


class _Player:
    """The publishers of a bag's images, and of their calibration."""

    def __init__(self, participant: Participant, bag: Path, images: Topic, route: ImageRoute) -> None:
        """Makes the publishers.

        Raises:
            ConfigError: If the topic's name is none that ROS 2 takes.
        """
        self.route = route
        self.offered = offered_qos(bag, images.name)
        self.type = images.type
        self._participant = participant
        kind = CompressedImage if route.is_compressed else Image
        topic = topics.resolved(participant.node, route.topic, "image_topic")
        self._images = participant.publisher(kind, topic, self.offered)
        self._infos = participant.publisher(CameraInfo, route.camera_info, OfferedQos())

    @property
    def is_subscribed(self) -> bool:
        """Whether the node listens to the images."""
        return bool(self._images.get_subscription_count())

    def publish(self, due: Due) -> bool:
        """Publishes a message as it was recorded; returns whether it could be: no camera sends bytes that are none."""
        recorded = due.recorded
        if recorded.stamp_ns is None or (due.index is not None and recorded.type != self.type):
            return False
        (self._infos if due.index is None else self._images).publish(recorded.payload)
        return True


def _ready(
    participant: Participant,
    node: NodeProcess,
    player: _Player,
    task: TaskRules,
    timeline: Timeline,
    options: NodeOptions,
) -> LiveRun:
    """Waits until the node is active and everything is connected both ways: then no frame is lost at the beginning.

    Raises:
        DataError: If that does not happen; with how the node has ended, and the last line of its log.
    """
    try:
        return _connect(participant, node, player, task, timeline, options)
    except NodeEndedError:
        node.stop()  # waits until its exit code is known
        raise DataError(node.end_in_words()) from None
    except StartError as error:
        raise DataError(f"{error}; {node.end_in_words()}") from None


def _connect(
    participant: Participant,
    node: NodeProcess,
    player: _Player,
    task: TaskRules,
    timeline: Timeline,
    options: NodeOptions,
) -> LiveRun:
    limit_s = options.start_limit_s

    def is_active() -> bool:
        cameras = participant.cameras().values()
        return bool(cameras) and all(values["topic"] for values in cameras)

    participant.wait_for(is_active, limit_s, "active perception_node")
    active_lines = node.lines
    camera = _camera_of(participant, player.route)
    settings = _settings(participant, camera, limit_s)
    topic = "/".join(filter(None, (options.robot, camera, task.topic)))
    kind = Classification if task.has_classes else JointState
    answers = participant.hear(kind, topic)
    raw = participant.hear(kind, f"{topic}_raw")
    participant.hear_model(limit_s)
    participant.wait_for(lambda: player.is_subscribed, limit_s, f"subscription of the node to {player.route.topic}")
    start_ns = timeline.at(0.0)

    def has_the_time() -> bool:
        participant.publish_clock(start_ns)
        return participant.diagnosed_ns() == max(start_ns, 0)

    # The clock was made after the images: who has its time knows their publisher, too.
    participant.wait_for(has_the_time, limit_s, "diagnosis of the node by the time on /clock")
    waiting = (active_lines, node.lines)
    return LiveRun(topic, player.route, camera, timeline, settings, player.offered, answers, raw, waiting)


def _camera_of(participant: Participant, route: ImageRoute) -> str:
    """Returns the name of the node's camera that listens to the images; empty for the only one.

    Raises:
        StartError: If none does.
    """
    listening = {name: values["topic"] for name, values in participant.cameras().items()}
    for name, topic in listening.items():
        if topic == route.topic:
            return name
    found = ", ".join(f"{name or 'the only one'} ({topic})" for name, topic in listening.items())
    raise StartError(f"no camera of the node listens to {route.topic}: {found}; see --params and --topic")


def _settings(participant: Participant, camera: str, within_s: float) -> NodeSettings:
    prefix = f"{camera}." if camera else ""
    names = {name: (prefix if name in _OF_CAMERA else "") + name for name in NodeSettings.__dataclass_fields__}
    found = participant.parameters(list(names.values()), within_s)
    return NodeSettings(**{name: found[full] for name, full in names.items()})


def _play(
    participant: Participant,
    node: NodeProcess,
    player: _Player,
    run: LiveRun,
    due: Iterable[Due],
    begin: Callable[[], None],
) -> None:
    """Plays all messages, and waits until nothing more comes; notes in `run` what happened."""
    before = node.usage()
    began_s = time.monotonic()
    try:
        begin()
        run.timeline.start(began_s)
        if all(_publish_when_due(participant, player, run, one) for one in due):
            _settle(participant, run)
    except KeyboardInterrupt:
        run.interrupted = True
        _settle(participant, run)
    run.seconds = time.monotonic() - began_s
    after = node.usage()
    run.usage = Usage(max(after.cpu_s - before.cpu_s, 0.0), after.peak_mb or before.peak_mb)
    run.counts = participant.counts(run.camera)
    if not participant.pause(0.0):
        node.stop()
        run.failure = node.end_in_words()
    run.said = node.said(run.waiting)


def _publish_when_due(participant: Participant, player: _Player, run: LiveRun, due: Due) -> bool:
    """Publishes a message at its time, and /clock meanwhile; returns whether the node goes on."""
    timeline = run.timeline
    time_ns = due.recorded.log_time_ns
    timeline.skip_pause(time.monotonic(), time_ns)
    due_s = timeline.moment_of(time_ns)
    wanted_s = due_s - timeline.slipped_s
    while (left_s := due_s - time.monotonic()) > 0:
        participant.publish_clock(timeline.at(time.monotonic()))
        if not participant.pause(min(left_s, _TICK_S)):
            return False
    timeline.slip(time.monotonic(), time_ns)
    participant.publish_clock(max(timeline.at(time.monotonic()), time_ns))
    published_s = time.monotonic()
    is_played = player.publish(due)
    if due.index is not None and is_played and due.recorded.stamp_ns is not None:
        run.played.append(PlayedFrame(due.index, due.recorded.stamp_ns, wanted_s, published_s))
    elif due.index is not None:
        run.unreadable += 1
    return participant.pause(0.0)


def _settle(participant: Participant, run: LiveRun) -> None:
    """Waits until it is known of every frame what became of it, or nothing changes any more."""
    seen = participant.diagnoses
    before: tuple[NodeCounts, int, int] | None = None
    quiet = 0
    while quiet < _QUIET_DIAGNOSES and participant.pause(_TICK_S):
        participant.publish_clock(run.timeline.at(time.monotonic()))
        if participant.diagnoses == seen:
            continue
        seen = participant.diagnoses
        counts = participant.counts(run.camera)
        now = (counts, len(run.answers), len(run.raw))
        if counts.settled >= len(run.played) and min(len(run.answers), len(run.raw)) >= counts.answered:
            return
        quiet = quiet + 1 if now == before else 0
        before = now
