"""The node `collect`: takes images of a running camera at a rate, at Enter in the terminal, or at a call.

One thread waits for images and takes them; the main thread answers the service and looks for the end.
"""

from __future__ import annotations

import functools
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.signals import uninstall_signal_handlers
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from cnn_perception.errors import EXIT_OK, ConfigError, DataError, FrameError, PerceptionError, printable, with_kind
from cnn_perception.ros import process, topics
from cnn_perception.ros.latest_subscription import LatestSubscription, SubscriptionSet
from training.collect.live.collection import Collection
from training.collect.options import CollectOptions
from training.collect.preparation import labels_of, make_describer, require_folder
from training.collect.set_folder import SetWriter, open_table

_KINDS: dict[str, type[Image] | type[CompressedImage]] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
_SILENCE_S = 5.0
"""Without an image for so long, why is said once."""
_ANSWERED_WITHIN_S = 5.0
"""So long a call of the service waits for an image."""
_POLL_S = 0.1


@dataclass(eq=False)
class _Request:
    """Somebody wants a frame.

    Attributes:
        answer: The image that was taken, or why there is none.
        is_taken: Whether there is one.
        is_done: Set when it was answered.
        is_late: Whether nobody waits for it any more.
    """

    answer: str = ""
    is_taken: bool = False
    is_done: threading.Event = field(default_factory=threading.Event)
    is_late: bool = False


class _Camera:
    """The camera as `SubscriptionSet` sees it."""

    def __init__(self, subscription: LatestSubscription[Any], min_period_s: float) -> None:
        self.subscription = subscription
        self.min_period_s = min_period_s
        self._silent_since_s: float | None = time.monotonic()

    def note_nothing(self) -> None:
        """Says once why no image comes."""
        if self._silent_since_s is not None and time.monotonic() - self._silent_since_s > _SILENCE_S:
            self._silent_since_s = None
            misfits = "; ".join(self.subscription.misfits())
            _say(f"no image arrives on {self.subscription.topic}" + (f": {misfits}" if misfits else "; is it running?"))


class CollectNode(Node):
    """Takes images of one camera into a data set; offers `~/collect` where a call takes them.

    Attributes:
        shutdown: Of the process.
    """

    def __init__(self, options: CollectOptions, collection: Collection, shutdown: process.Shutdown) -> None:
        """Begins to wait for the camera.

        Args:
            options: What is collected.
            collection: What it is added to.
            shutdown: Of the process.

        Raises:
            ConfigError: If the topic cannot be one.
        """
        super().__init__("collect")
        self.shutdown = shutdown
        self._options = options
        self._collection = collection
        self._name = topics.expanded(self, options.topics[0], "--topic")  # before remapping
        self._topic = self.resolve_topic_name(self._name)
        self._camera: _Camera | None = None
        self._cameras: SubscriptionSet[_Camera] | None = None
        self._requests: queue.Queue[_Request] = queue.Queue()
        self._has_ended = threading.Event()
        self._error: PerceptionError | None = None
        self._refused: set[str] = set()
        self._ends_s = float("inf") if options.seconds is None else time.monotonic() + options.seconds
        if options.trigger == "service":
            self.create_service(Trigger, "~/collect", self._on_call)
        if options.trigger == "key":
            threading.Thread(target=self._read_keys, name="keys", daemon=True).start()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be collected."""
        return self._has_ended.is_set() or time.monotonic() > self._ends_s

    def end(self) -> None:
        """Ends the collecting; what was taken is written.

        Raises:
            PerceptionError: What has ended it.
            DataError: If the table cannot be written, or no image was taken because none came.
        """
        self._has_ended.set()
        if self._cameras is not None:
            self._cameras.close()
        self._thread.join()
        if self._cameras is not None and self._camera is not None:
            self._cameras.destroy()
            self._camera.subscription.destroy()
        self._collection.finish()
        if self._error is not None:
            raise self._error
        if not self._collection.count and self._options.trigger == "rate":
            what = "could be used" if self._refused else "came"
            raise DataError(f"no image {what} on {self._topic}; see whether the camera runs")

    def _on_call(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        request = _Request(f"no image came on {self._topic} within {_ANSWERED_WITHIN_S:g} s")
        self._requests.put(request)
        request.is_late = not request.is_done.wait(_ANSWERED_WITHIN_S)
        response.success = request.is_taken
        response.message = request.answer
        return response

    def _read_keys(self) -> None:
        asked = []
        for _line in sys.stdin:
            asked.append(_Request())
            self._requests.put(asked[-1])
        for request in asked:
            request.is_done.wait(_ANSWERED_WITHIN_S)
        self._has_ended.set()

    def _run(self) -> None:
        try:
            self._camera = self._found_camera()
            if self._camera is not None:
                self._cameras = SubscriptionSet(self.context, [self._camera], 1)
                self._collect(self._cameras)
        except PerceptionError as error:
            self._error = error
        finally:
            self._has_ended.set()

    def _found_camera(self) -> _Camera | None:
        """Returns the camera once somebody publishes on the topic; None if the work ends before.

        Raises:
            ConfigError: If what is published is no image.
        """
        period_s = 1.0 / self._options.rate_hz if self._options.trigger == "rate" else 0.0
        waits_since_s = time.monotonic()
        while not self._has_ended.wait(_POLL_S):
            kinds = {info.topic_type for info in self.get_publishers_info_by_topic(self._name)}
            if found := [kind for name, kind in _KINDS.items() if name in kinds]:
                _say(self._how())
                return _Camera(self._subscribed(found[0]), period_s)
            if kinds:
                raise ConfigError(f"--topic {self._topic}: is {', '.join(sorted(kinds))}; name an image topic")
            if time.monotonic() - waits_since_s > _SILENCE_S:
                waits_since_s = float("inf")
                _say(f"nobody publishes {self._topic} yet; image topics there are: {self._image_topics()}")
        return None

    def _how(self) -> str:
        what = {
            "rate": f"takes {self._options.rate_hz:g} images a second that differ",
            "key": "press Enter for each image",
            "service": f"call {self.get_fully_qualified_name()}/collect for each image",
        }
        return f"{self._topic}: {what[self._options.trigger]}, Ctrl-C ends it"

    def _image_topics(self) -> str:
        known = self.get_topic_names_and_types()
        return ", ".join(name for name, kinds in known if any(kind in _KINDS for kind in kinds)) or "none"

    def _subscribed(self, kind: type[Image] | type[CompressedImage]) -> LatestSubscription[Any]:
        def ignore(_count: int) -> None:
            """Frames that are not taken are meant to be missed."""

        return LatestSubscription(self, kind, self._name, ReliabilityPolicy.BEST_AVAILABLE, ignore, ignore)

    def _collect(self, cameras: SubscriptionSet[_Camera]) -> None:
        """Takes frames until the end.

        Raises:
            DataError: If one cannot be written.
        """
        while not self._has_ended.is_set() and not self._collection.is_full:
            request = self._next_request()
            if request is None:
                continue
            while not request.is_late and not request.is_done.is_set() and cameras.wait():
                for taken in cameras.take() or ():
                    self._take(taken.message, request)
            if self._has_ended.is_set():
                return

    def _next_request(self) -> _Request | None:
        """Returns the next wish for a frame; None if there is none for now."""
        if self._options.trigger == "rate":
            return _Request()
        try:
            return self._requests.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def _take(self, message: Image | CompressedImage, request: _Request) -> None:
        is_news = True
        try:
            request.answer = self._collection.take(message, self._topic)
            request.is_taken = bool(request.answer)
        except FrameError as error:
            request.answer = f"left out: {error}"
            is_news = error.reason not in self._refused
            self._refused.add(error.reason)
        except DataError as error:  # which ends the work; who has called waits for the reason
            request.answer = str(error)
            raise
        except BaseException as error:
            request.answer = f"a defect ends the collecting ({with_kind(error)}); see its output"
            raise
        finally:
            request.is_done.set()
        if request.answer and is_news:
            _say(request.answer)


def run(options: CollectOptions, ros_arguments: Sequence[str]) -> int:
    """Collects until the end that the options give, Ctrl-C or SIGTERM; returns the exit code.

    Args:
        options: What is collected.
        ros_arguments: `--ros-args` and what follows it.

    Raises:
        PerceptionError: If a model or the data set cannot be used.
    """
    require_folder(options.output)
    describer = make_describer(options)
    labels = labels_of(options, describer)
    writer = SetWriter(open_table(options.output, labels), labels)
    collection = Collection(options, describer, writer, time.monotonic, _say)
    code = process.run(functools.partial(CollectNode, options, collection), _work, ros_arguments)
    _say(f"{collection.count} images were added to {options.output}; {collection.alike} look like the one before them")
    return code


def _work(node: CollectNode) -> int:
    signals: list[int] = []
    # rclpy's handler would close the context before all is written.
    uninstall_signal_handlers()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: signals.append(received))
    try:
        process.spin(node, node.shutdown, is_done=lambda: signals or node.is_done, poll_s=_POLL_S)
    finally:
        node.end()
    return EXIT_OK


def _say(text: str) -> None:
    print(printable(text), flush=True)
