"""dashboard_node: shows a perception node at work as a page in the browser; it changes nothing.

While nobody looks, it hears the diagnostics only: it subscribes to answers and pictures of the camera that an open page
asks for, so the perception node computes nothing for it otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, JointState
from vision_msgs.msg import Classification

from cnn_perception import topic_names
from cnn_perception.dashboard_node.board import MOST_STATUSES, Board, Status
from cnn_perception.dashboard_node.camera_history import CameraHistory
from cnn_perception.errors import EXIT_OK, ConfigError, printable
from cnn_perception.image.messages import nanoseconds
from cnn_perception.local_page.guard import HOST, App
from cnn_perception.local_page.server import LocalPage
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.ros import given_parameters, parameters, process, topics
from cnn_perception.ros.parameters import parameter
from cnn_perception.ros.throttled_log import ThrottledLog
from cnn_perception.tasks.registry import TASKS

_LOOK_S = 0.2
"""So often it is seen who looks."""
_SILENCE_S = 5.0
"""A node that was not heard for so long after the start is said: longer than nodes that start together take."""
_DIAGNOSTICS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# qos_overrides may have made the perception node's topics best effort
_ANSWERS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_AVAILABLE)
_PICTURES_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_AVAILABLE)
_LARGEST_PICTURE_BYTES = 2**25
_LONGEST_NAME = 100
"""Characters of a class that are shown."""
_WORST = 3
"""Of a status's levels: it was not heard of."""
_MOST_VALUES = 100
"""Of one message, whoever publishes it."""


@dataclass(frozen=True)
class DashboardSettings:
    """The parameters of `dashboard_node`.

    Raises:
        ConfigError: If a value is out of range.
    """

    perception_node: str = parameter(
        topic_names.NODE, "Name of the perception node that is shown, with its namespace.", read_only=True
    )
    port: int = parameter(0, "Port of the page; 0 takes a free one.", between=(0, 65535), read_only=True)
    host: str = parameter(
        HOST,
        "Numeric address at which the page listens; 0.0.0.0 lets other machines in, who have the token.",
        read_only=True,
    )
    history_s: float = parameter(
        300.0, "How long answers and unsure frames are shown, seconds.", between=(10.0, 3600.0), read_only=True
    )
    unsure_margin: float = parameter(
        0.2,
        "A frame whose best score exceeds the second by less, as published, is kept as unsure; unknown always is one, "
        "and so is one without a class above the threshold.",
        between=(0.0, 1.0),
        read_only=True,
    )
    always: bool = parameter(
        False,
        "Whether answers are collected also while nobody looks, which the perception node then computes.",
        read_only=True,
    )

    def __post_init__(self) -> None:
        parameters.validate(self)
        try:
            ipaddress.IPv4Address(self.host)
        except ValueError:
            raise ConfigError(f"parameter host is {self.host!r}; write numbers such as {HOST}") from None


@dataclass(frozen=True)
class _Topics:
    """What is subscribed to of a camera.

    Attributes:
        answers: Whether they are classes, or numbers, by their topics.
        overlay: Topic of the pictures.
    """

    answers: Mapping[str, bool]
    overlay: str


class DashboardNode(parameters.ParameterNode):
    """Follows the perception node for who looks, and serves the page in a thread of its own.

    Attributes:
        shutdown: Of the process.
    """

    def __init__(self, shutdown: process.Shutdown, node_name: str = "dashboard_node") -> None:
        """Declares the parameters, subscribes to the diagnostics and begins to serve.

        Args:
            shutdown: Of the process.
            node_name: Its name.

        Raises:
            ConfigError: If a parameter is unusable, the port is taken, or the page's libraries are missing.
        """
        self._page: LocalPage | None = None
        super().__init__(node_name)
        self.shutdown = shutdown
        parameters.declare(self, DashboardSettings)
        given_parameters.warn_of_unknown(self)
        given_parameters.warn_of_unknown_qos(self)
        self._settings = parameters.read(self, DashboardSettings)
        shown = topics.expanded(self, self._settings.perception_node, "perception_node")
        self._board = Board(shown, self._settings.history_s)
        self._log = ThrottledLog(self.get_logger())
        self._started_s = time.monotonic()
        self._subscriptions_of: dict[str, tuple[_Topics, list[Subscription[Any]]]] = {}
        self.create_subscription(DiagnosticArray, topic_names.DIAGNOSTICS, self._on_diagnostics, _DIAGNOSTICS_QOS)
        heartbeat = shutdown.expect("nobody sees who looks", _LOOK_S + process.STALL_S)
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_LOOK_S, heartbeat.after(self._follow_onlookers), clock=clock)
        page = self._page = LocalPage(self._settings.port, self._settings.host)
        serve = functools.partial(self._serve, page, _application(self._board))
        threading.Thread(target=serve, name="page", daemon=True).start()
        self.get_logger().info(f"showing {shown}: open {page.address}")
        if page.is_remote:
            self.get_logger().warning(
                f"host is {self._settings.host}: whoever sees the network's traffic can read the page's token; "
                "ssh -L with the default host keeps it to yourself"
            )

    def destroy_node(self) -> None:
        """Ends the page, too."""
        if self._page is not None:
            self._page.stop()
        super().destroy_node()

    def _serve(self, page: LocalPage, app: App) -> None:
        page.serve(app)
        if not self.shutdown.has_begun:
            raise RuntimeError("the page has ended by itself")

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        ours = [one for one in array.status if self._board.is_ours(one.name)]
        self._board.diagnosed([_status(one) for one in ours[:MOST_STATUSES]])
        for one in array.status:
            if not self._board.is_ours(one.name) and any(pair.key == topic_names.ANSWERS_KEY for pair in one.values):
                self._board.heard_of_another(one.name.partition(": ")[0])

    def _follow_onlookers(self) -> None:
        if not (silence := self._board.silence):
            self._log.is_over("silence", f"{self._board.node} is heard")
        elif time.monotonic() - self._started_s > _SILENCE_S:
            self._log.lasts("silence", silence)
        cameras = {*self._board.cameras} if self._settings.always else self._board.watched()
        wanted = {camera: self._topics_of(camera) for camera in cameras}
        for camera in [camera for camera, (had, _) in self._subscriptions_of.items() if wanted.get(camera) != had]:
            for subscription in self._subscriptions_of.pop(camera)[1]:
                self.destroy_subscription(subscription)
        for camera in sorted(wanted.keys() - self._subscriptions_of.keys()):
            history = self._board.history(camera)
            if history is not None:
                self._subscriptions_of[camera] = wanted[camera], self._subscribed(wanted[camera], history)

    def _topics_of(self, camera: str) -> _Topics:
        """Returns the topics of everything that is shown of a camera: as they are named, and as the node says."""
        base = topic_names.below(self._board.node, camera) if camera else self._board.node
        named = {topic_names.below(base, task.topic): task.has_classes for task in TASKS.values()}
        task = self._board.task
        said = self._board.topic(camera, topic_names.ANSWERS_KEY)
        is_named = said in {self.resolve_topic_name(topic) for topic in named}  # this node may be remapped as well
        remapped = {said: task.has_classes} if said and not is_named and task is not None else {}
        overlay = self._board.topic(camera, topic_names.OVERLAY_KEY)
        return _Topics(named | remapped, overlay or topic_names.below(base, topic_names.OVERLAY_JPEG))

    def _subscribed(self, wanted: _Topics, history: CameraHistory) -> list[Subscription[Any]]:
        """Returns new subscriptions to everything that is shown of a camera."""

        def on_answer(message: Classification | JointState) -> None:
            self._on_answer(history, message)

        def on_overlay(message: CompressedImage) -> None:
            media_type = _media_type(message)
            if media_type:
                history.picture(nanoseconds(message.header.stamp), bytes(message.data), media_type)

        found: list[Subscription[Any]] = []
        with self._refused(wanted.overlay, _PICTURES_QOS):
            found.append(self.create_subscription(CompressedImage, wanted.overlay, on_overlay, _PICTURES_QOS))
        for topic, has_classes in wanted.answers.items():
            kind = Classification if has_classes else JointState
            with self._refused(topic, _ANSWERS_QOS):
                found.append(self.create_subscription(kind, topic, on_answer, _ANSWERS_QOS))
        return found

    @contextlib.contextmanager
    def _refused(self, topic: str, qos: QoSProfile) -> Iterator[None]:
        """Goes on without a subscription that cannot be: anybody's diagnosis may name its topic."""
        try:
            with topics.refusing_overrides(self, topic, qos):
                yield
        except ConfigError as error:
            self._log.warn(f"refused {topic}", str(error))

    def _on_answer(self, history: CameraHistory, message: Classification | JointState) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6 if stamp_ns > 0 else None
        shown = [(_shortened(name), value) for name, value in _values(message)[:_MOST_VALUES]]
        history.answer(time.monotonic(), stamp_ns, age_ms, shown, is_unsure=self._is_unsure(shown))

    def _is_unsure(self, results: Sequence[tuple[str, float]]) -> bool:
        """Returns whether a model of one class an image was unsure, by what it publishes.

        That is less than its recorder judges by: the scores after `threshold`, `top_k` and smoothing. Where none has
        reached the threshold, it was least sure of all; a second class that is not published counts as 0.
        """
        task = self._board.task
        if task is None or not task.is_exclusive:
            return False
        if not results:
            return True
        best, second = [*[score for _, score in results], 0.0][:2]
        return results[0][0] == UNKNOWN or best - second < self._settings.unsure_margin


def _application(board: Board) -> App:
    """Returns the page.

    Raises:
        ConfigError: If the library is missing that serves it.
    """
    try:
        import uvicorn  # noqa: F401 is imported where it is needed, in another thread

        from cnn_perception.dashboard_node.server import application
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}; pip install starlette uvicorn") from None
    return application(board)


def _values(message: Classification | JointState) -> list[tuple[str, float]]:
    """Returns class and score, or name and value, of each part of an answer."""
    if isinstance(message, JointState):
        return list(zip(message.name, message.position, strict=False))
    return [(one.class_id, one.score) for one in message.results]


def _shortened(name: str) -> str:
    text = printable(name[: _LONGEST_NAME + 1])
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def _status(message: DiagnosticStatus) -> Status:
    values = {printable(pair.key): printable(pair.value) for pair in message.values[:_MOST_VALUES]}
    level = min(message.level[0], _WORST)
    return Status(printable(message.name), level, printable(message.message), values)


def _media_type(message: CompressedImage) -> str:
    """Returns what a browser calls the format of a picture; empty for what is none or too large."""
    if len(message.data) > _LARGEST_PICTURE_BYTES:
        return ""
    return next((f"image/{name}" for name in ("jpeg", "png") if name in message.format), "")


def _work(node: DashboardNode) -> int:
    process.spin(node, node.shutdown)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the node until Ctrl-C or SIGTERM; returns the exit code."""
    if text := parameters.help_of("dashboard_node", __doc__ or "", DashboardSettings, argv=argv):
        print(text)
        return EXIT_OK
    return process.run(DashboardNode, _work, argv)
