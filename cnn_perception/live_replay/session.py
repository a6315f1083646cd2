"""One replay: the node is started, gets ready, is played the bag, and settles; then it is ended, whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rclpy.impl.implementation_singleton import rclpy_implementation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from vision_msgs.msg import Classification

from cnn_perception import topic_names
from cnn_perception.bag.offered_qos import OfferedQos, offered_qos
from cnn_perception.bag.reader import Bag, Topic
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError, one_line
from cnn_perception.live_replay.accounts import NodeCounts
from cnn_perception.live_replay.domain import free_domain, local_environment
from cnn_perception.live_replay.node_options import (
    ImageRoute,
    NodeOptions,
    NodeSettings,
    node_arguments,
    settings_names,
)
from cnn_perception.live_replay.node_process import NodeProcess, Usage
from cnn_perception.live_replay.participant import Heard, NodeEndedError, Participant, StartError
from cnn_perception.live_replay.timeline import Due, PlayedFrame, Timeline, due_messages
from cnn_perception.ros import topics, transport
from cnn_perception.tasks.rules import TaskRules

_TICK_S = 0.01
"""Between two messages of /clock: no frame is judged older or younger by more than that, times the rate."""
_QUIET_DIAGNOSES = 3
"""After so many diagnoses without a change nothing more is coming."""


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
        stages: How long each stage of the latest frames took, as the node says.
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
    stages: dict[str, str] = field(default_factory=dict)
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
    due = due_messages(bag, images, route.recorded_info)
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
        arguments = node_arguments(options, route, Path(logs) / "replay.yaml")
        node = stack.enter_context(NodeProcess(arguments, os.environ, log, participant.note_end))
        timeline = Timeline(first.recorded.log_time_ns, rate)
        run = _ready(participant, node, player, task, timeline, options)
        text = f"playing {images.count} images to {options.robot}, process {node.pid}, in ROS domain {domain}"
        messages = ProgressBar(itertools.chain([first], due), desc="playing", unit="message")
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
        topic = topics.expanded(participant.node, route.topic, "image_topic")
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
        return bool(cameras) and all(values[topic_names.IMAGES_KEY] for values in cameras)

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
    listening = {name: values[topic_names.IMAGES_KEY] for name, values in participant.cameras().items()}
    for name, topic in listening.items():
        if topic == route.topic:
            return name
    found = ", ".join(f"{name or 'the only one'} ({topic})" for name, topic in listening.items())
    raise StartError(f"no camera of the node listens to {route.topic}: {found}; see --params and --topic")


def _settings(participant: Participant, camera: str, within_s: float) -> NodeSettings:
    names = settings_names(camera)
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
    run.stages = participant.stages(run.camera)
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
    with _uninterrupted():
        is_played = player.publish(due)
        if due.index is not None and is_played and due.recorded.stamp_ns is not None:
            run.played.append(PlayedFrame(due.index, due.recorded.stamp_ns, wanted_s, published_s))
        elif due.index is not None:
            run.unreadable += 1
    return participant.pause(0.0)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Has Ctrl-C wait for the end of a block: what is published is noted, too, else the accounts are wrong by one."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which no signal interrupts
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted and callable(before):
        before(signal.SIGINT, None)


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
