"""Recognises every frame through the pipeline, once and in order, at the highest rate the machine gives.

On a CPU that is one frame a core, each with one thread: with all cores on one frame they would wait for each other at
every layer, and for the thread that reads the recording. The robot does the opposite, because it wants each single
answer soon; `measure_latency` measures its way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.image.appearance import appearance
from cnn_perception.image.messages import RgbImage, Seen
from cnn_perception.masks.segmentation import MaskTally
from cnn_perception.metrics import Latency, latency
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.stream.frozen import PictureSample
from cnn_perception.stream.odd_pictures import OddPictures

WORKERS = min(len(os.sched_getaffinity(0)), 16)
"""Frames in work at the same time; each holds a decoded image."""

_LATENCY_FRAMES = 100
_WORST_FRAMES = 12
_WORST_ALIKE = 3
_APART_NS = 10**9
"""So far from each other in time are the worst frames of a recording: its neighbours show the same."""

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


def _look_away(_index: int, _image: RgbImage) -> None:
    return None


@dataclass
class ReplayedFrames:
    """The frames recognised so far, all of them or those before an interruption; it grows during an evaluation."""

    records: list[FrameRecord] = field(default_factory=list)
    odd: OddPictures = field(default_factory=OddPictures)
    worst: list[LabelledFrame] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the pictures, a line for each kind."""
        return self.odd.warnings()

    def by_badness(self) -> list[LabelledFrame]:
        """Returns the worst frames, the worst first."""
        return sorted(self.worst, key=lambda frame: (-frame.record.badness, frame.record.index))


def measure_latency(pipeline: Pipeline, frames: LabelledFrames) -> dict[str, Latency]:
    """Returns how long the stages of the first frames take, one frame after the other as on the robot.

    Returns:
        Percentiles of each stage and of their sum, `total`, in milliseconds; empty without a good frame.
    """
    rows: list[dict[str, float]] = []
    for frame in frames:
        if len(rows) == _LATENCY_FRAMES:
            break
        if not isinstance(frame.content, FrameError):
            try:
                rows.append(pipeline.run(frame.content).timings.by_stage())
            except FrameError:
                continue
    columns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for stage, duration_ms in row.items():
            columns[stage].append(duration_ms)
        columns["total"].append(sum(row.values()))
    return {stage: latency(durations_ms) for stage, durations_ms in columns.items()}


def replay(
    pipeline: Pipeline,
    frames: LabelledFrames,
    workers: int = WORKERS,
    see: Callable[[int, RgbImage], None] = _look_away,
) -> ReplayedFrames:
    """Returns every frame, recognised once, so many at a time; Ctrl-C ends it early and is noted.

    Args:
        pipeline: Recognises them.
        frames: All of them.
        workers: How many at a time.
        see: Is shown each picture with the index of its frame, by several threads at once.
    """
    replayed = ReplayedFrames()
    started = time.perf_counter()
    answers = in_order(lambda frame: _recognise(pipeline, frame, see), frames, workers)
    try:
        for frame, seen, sample in ProgressBar(answers, total=frames.count, desc="evaluating", unit="frame"):
            replayed.records.append(frame.record)
            replayed.odd.add(seen, sample)
            _keep_if_bad(replayed.worst, frame)
    except KeyboardInterrupt:
        replayed.interrupted = True
    replayed.seconds = time.perf_counter() - started
    return replayed


def replay_masks(tally: MaskTally, frames: LabelledFrames) -> None:
    """Segments every frame that has a mask, one after the other, each with all cores; Ctrl-C ends it early.

    The mask of a file is looked for by its path, that of a bag's frame as BAG/TOPIC/<stamp_ns>.png.

    Raises:
        DataError: If a mask cannot be used.
    """
    try:
        for frame in ProgressBar(frames, total=frames.count, desc="segmenting", unit="frame"):
            name = frame.record.name or str(frame.record.stamp_ns)
            folder = frames.path / frames.topic.strip("/")
            tally.add(name, folder / (name if frame.record.name else f"{name}.image"), frame.content)
        tally.complete = True
    except KeyboardInterrupt:
        pass


def in_order(
    function: Callable[[ItemT], AnswerT], items: Iterable[ItemT], workers: int = WORKERS, waiting: int | None = None
) -> Generator[AnswerT, None, None]:
    """Yields function(item) of every item, in their order, computed some items ahead.

    Args:
        function: What is computed.
        items: Of these.
        workers: By so many threads.
        waiting: How many items may wait beside those; None for as many as there are threads.
    """
    ahead = 2 * workers if waiting is None else workers + waiting
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[AnswerT]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _recognise(
    pipeline: Pipeline, frame: LabelledFrame, see: Callable[[int, RgbImage], None]
) -> tuple[LabelledFrame, Seen, PictureSample | None]:
    """Returns the frame with its answer, or with why there is none, and what its picture showed beside and is."""
    record = frame.record
    try:
        if isinstance(frame.content, FrameError):
            raise frame.content
        record = dataclasses.replace(record, content=_digest(frame.content.data))
        prepared = pipeline.prepare(frame.content)
        see(record.index, prepared.image)
        prediction = pipeline.infer(prepared).prediction
    except FrameError as error:
        record = dataclasses.replace(record, error=error.reason, message=str(error))
        return LabelledFrame(record, frame.content), Seen(), None
    sample = PictureSample.of(prepared.image, record.stamp_ns)
    answered = record.answered(prediction, appearance(prepared.image))
    return LabelledFrame(answered, frame.content), prepared.decoded.seen, sample


def _digest(data: bytes | memoryview) -> str:
    """Returns by what a picture is known again: the first 16 hex digits of the SHA-256 of its message's bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _keep_if_bad(worst: list[LabelledFrame], frame: LabelledFrame) -> None:
    """Keeps the few worst frames with their images, whatever the length of the recording.

    Neighbouring frames fail alike: of those of one second the worst is kept. A limit for each kind of mistake leaves
    room for the others.
    """
    if frame.record.prediction is None:
        return
    near = [other for other in worst if _is_near(other.record, frame.record)]
    if near:
        if frame.record.badness > max(other.record.badness for other in near):
            worst[:] = [other for other in worst if other not in near]
            worst.append(frame)
        return
    alike = [other for other in worst if _kind(other.record) == _kind(frame.record)]
    if len(alike) < _WORST_ALIKE and len(worst) < _WORST_FRAMES:
        worst.append(frame)
        return
    best = min(alike if len(alike) >= _WORST_ALIKE else worst, key=lambda other: other.record.badness)
    if frame.record.badness > best.record.badness:
        worst[worst.index(best)] = frame


def _is_near(record: FrameRecord, other: FrameRecord) -> bool:
    """Returns whether two frames of a recording show one event; those of a folder have no time."""
    is_timed = bool(record.received_ns and other.received_ns)
    return is_timed and abs(record.received_ns - other.received_ns) < _APART_NS


def _kind(record: FrameRecord) -> tuple[object, object]:
    """Returns the known and the answered class or classes; wrong numbers are alike in the same second."""
    if isinstance(record.truth, tuple):
        return record.name, int(record.time_s)
    return record.truth, record.answer
