"""Answers boxes in a thread of its own, beside the whole frames, which never wait for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseArray
from vision_msgs.msg import Detection2DArray

from cnn_perception.errors import FrameError, PerceptionError
from cnn_perception.image.messages import Decoded, decode_frame, encoded_from_message
from cnn_perception.perception_node.active_model import ActiveModel, ModelOwner
from cnn_perception.perception_node.frame_stages import refusal_of_defect
from cnn_perception.perception_node.regions.messages import deserialized, to_detections, to_rays
from cnn_perception.perception_node.regions.publishers import RAYS
from cnn_perception.perception_node.regions.stream import BoxedImage, RegionStream
from cnn_perception.perception_node.settings import LiveSettings
from cnn_perception.pipeline.pipeline import Prepared
from cnn_perception.regions.answering import RegionSettings, infer_boxes, prepare_boxes
from cnn_perception.regions.box import Box
from cnn_perception.regions.matching import require_same_frame, require_upright
from cnn_perception.ros.throttled_log import ThrottledLog
from cnn_perception.stream.frame_counters import DEFECT
from cnn_perception.stream.stamps import too_old
from cnn_perception.tasks.prediction import Prediction

_MOST_DEFECTS = 3
"""As of frames: so many in a row are no accident."""
INTERRUPTED = "rois_interrupted"
"""Why boxes are dropped that were under way when the node changed."""
_STALL_S = 5.0
"""Boxes of one image that take longer stand still; a hundred of a slow model may take seconds."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """Boxes with their image, decoded.

    Attributes:
        message: The boxes as they came.
        boxes: The same as values.
        header: Of the image.
        decoded: The image.
        decode_ms: How long that took.
    """

    message: Detection2DArray
    boxes: list[Box]
    header: Any
    decoded: Decoded
    decode_ms: float


class RegionWorker:
    """The thread that answers the boxes of all cameras, the newest of each, in turn.

    Boxes may be many and a model slow: where the node changes, or ends, those under way are given up after the run of
    the model that they are at.
    """

    def __init__(
        self,
        streams: Sequence[RegionStream],
        models: ModelOwner,
        live: LiveSettings,
        log: ThrottledLog,
        now_ns: Callable[[], int],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Starts the thread.

        Args:
            streams: Whose boxes are answered.
            models: Where the model in use is found.
            live: The parameters in force.
            log: Is told of defects that cost the boxes of one image.
            now_ns: The node's clock, nanoseconds.
            on_failure: Called in the thread with the defect that ends it.
        """
        self._streams = streams
        self._models = models
        self._live = live
        self._log = log
        self._now_ns = now_ns
        self._on_failure = on_failure
        self._news = threading.Condition()  # guards the next three
        self._is_closed = False
        self._pauses = 0
        self._is_at_boxes = False
        self._began_s: float | None = None  # written by the thread, read by diagnostics
        self._thread = threading.Thread(target=self._run, name="regions", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tells it that there are boxes to answer."""
        with self._news:
            self._news.notify_all()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps it out of a block; the boxes under way are given up."""
        with self._news:
            self._pauses += 1
            self._news.wait_for(lambda: not self._is_at_boxes)
        try:
            yield
        finally:
            with self._news:
                self._pauses -= 1
                self._news.notify_all()

    def stalled(self) -> str:
        """Says for how long the boxes of one image have been under way; empty while that is not unusual."""
        began_s = self._began_s
        age_s = 0.0 if began_s is None else time.perf_counter() - began_s
        return f"the boxes of one image for {age_s:.1f} s" if age_s > _STALL_S else ""

    def close(self) -> None:
        """Ends the thread; the boxes under way are given up."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                for stream in self._streams:
                    if self._begin():
                        try:
                            self._answer_newest(stream)
                        finally:
                            self._end()
        except BaseException as error:  # a SystemExit, too, which threads swallow
            self._on_failure(error)

    def _wait(self) -> bool:
        """Waits until there are boxes to answer and it may; returns False once it is closed."""
        with self._news:
            self._news.wait_for(lambda: self._is_closed or (not self._pauses and self._has_boxes()))
            return not self._is_closed

    def _has_boxes(self) -> bool:
        return any(stream.has_pair() for stream in self._streams)

    def _begin(self) -> bool:
        """Returns whether it may answer the boxes of an image now; then `paused` waits for `_end`."""
        with self._news:
            self._is_at_boxes = not self._is_unwanted
            return self._is_at_boxes

    def _end(self) -> None:
        with self._news:
            self._is_at_boxes = False
            self._news.notify_all()

    @property
    def _is_unwanted(self) -> bool:
        return self._is_closed or self._pauses > 0

    def _answer_newest(self, stream: RegionStream) -> None:
        pair = stream.take()
        if pair is None:
            return
        self._began_s = time.perf_counter()
        stream.counters.messages.receive(time.monotonic())
        try:
            self._answer(stream, pair, self._models.in_use)
        except FrameError as refusal:
            stream.drop(refusal)
            self._note_defect(stream, refusal)
        self._began_s = None

    def _answer(self, stream: RegionStream, pair: BoxedImage, model: ActiveModel) -> None:
        """Publishes the answers to boxes.

        Raises:
            FrameError: If they are not answered.
        """
        self._require_recent(stream, pair)
        started_s = time.perf_counter()
        asked = _asked(stream, pair)
        settings = self._settings(stream)
        parts = self._while_wanted(_guarded(prepare_boxes(model.pipeline, asked.decoded.image, asked.boxes, settings)))
        answers = infer_boxes(model.pipeline, parts, settings.batch_size)
        stream.defects_in_a_row = 0
        inferred_s = time.perf_counter()
        self._require_recent(stream, pair)
        self._publish(stream, asked, answers)
        now_ns = self._now_ns()
        durations_ms = {
            "decode": asked.decode_ms,
            "boxes": (inferred_s - started_s) * 1e3 - asked.decode_ms,
            "publish": (time.perf_counter() - inferred_s) * 1e3,
            "age": (now_ns - pair.stamp_ns) / 1e6,
        }
        stream.counters.add(asked.boxes, answers, *asked.decoded.image.shape[:2])
        stream.counters.messages.answer(durations_ms)

    def _while_wanted(self, parts: Iterator[Prepared | FrameError]) -> Iterator[Prepared | FrameError]:
        """Yields the same, and gives them up where the node changes or ends."""
        for part in parts:
            if self._is_unwanted:
                raise FrameError(INTERRUPTED, "the model or the state of the node changed while they were answered")
            yield part

    def _publish(self, stream: RegionStream, asked: _Asked, answers: Sequence[Prediction | FrameError]) -> None:
        settings = self._live.settings
        rays = _rays(stream, asked) if stream.outputs.is_wanted(RAYS) else None
        stream.outputs.publish(to_detections(asked.message, answers, settings.top_k, settings.threshold), rays)

    def _settings(self, stream: RegionStream) -> RegionSettings:
        camera = stream.settings
        return RegionSettings(camera.rois_crop, camera.rois_max, self._live.settings.rois_batch_size)

    def _require_recent(self, stream: RegionStream, pair: BoxedImage) -> None:
        max_age_s = stream.settings.max_age_s
        if too_old(pair.stamp_ns, self._now_ns(), max_age_s):
            raise FrameError("too_old", f"the boxes and their image became older than max_age {max_age_s:g} s")

    def _note_defect(self, stream: RegionStream, refusal: FrameError) -> None:
        """A defect costs the boxes of one image alone, unless it is the third in a row."""
        if refusal.reason != DEFECT:
            return
        defect = refusal.__cause__ or refusal
        stream.defects_in_a_row += 1
        if stream.defects_in_a_row == _MOST_DEFECTS:
            raise defect
        self._log.defect(defect)


def _asked(stream: RegionStream, pair: BoxedImage) -> _Asked:
    """Returns boxes and their image, decoded.

    Raises:
        FrameError: If they cannot be used; its cause is the defect that was met, if there was one.
    """
    assert isinstance(pair.image, bytes)
    started_s = time.perf_counter()
    try:
        message = deserialized(pair.boxes, Detection2DArray)
        image = deserialized(pair.image, stream.inputs.kind)
        require_same_frame(message.header.frame_id, image.header.frame_id)
        decoded = decode_frame(encoded_from_message(image).overridden(stream.settings.overrides))
        require_upright(decoded.seen)
        boxes = [Box.from_message(one) for one in message.detections]
    except FrameError:
        raise
    except BaseException as error:  # of a decoder, say: a peer must not be able to end the node with one message
        raise refusal_of_defect(error) from error
    return _Asked(message, boxes, image.header, decoded, (time.perf_counter() - started_s) * 1e3)


def _guarded(parts: Iterator[Prepared | FrameError]) -> Iterator[Prepared | FrameError]:
    """Yields the same, and turns a defect into a refusal: no box that a peer sends may end the node."""
    try:
        yield from parts
    except (FrameError, GeneratorExit):
        raise
    except BaseException as error:
        raise refusal_of_defect(error) from error


def _rays(stream: RegionStream, asked: _Asked) -> PoseArray | None:
    """Returns the rays of boxes, or says why there are none."""
    try:
        height, width = asked.decoded.image.shape[:2]
        camera = stream.camera_info.model(height, width, asked.header.frame_id)
    except PerceptionError as error:
        stream.warn("camera_info", str(error))
        return None
    return to_rays(asked.header, asked.boxes, camera)
