"""Every frame of a source through the pipeline, once and in order, at the speed of the model.

Reading, decoding and preprocessing of the next frames happen in a second thread while the model works on this one.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from cnn_perception.errors import FrameError
from cnn_perception.image import decode
from cnn_perception.metrics import true_rank
from cnn_perception.pipeline import Pipeline, Timings
from cnn_perception.postprocess import postprocess
from cnn_perception.preprocess import InputTensor, preprocess
from cnn_perception.results import FrameRecord, shortened
from cnn_perception.sources import LabelledFrame, Source
from cnn_perception.spec import InputSpec

KEPT_CLASSES = 5
"""How many of the best classes a record keeps."""

_WORST_FRAMES = 12
_WORST_ALIKE = 3
_PREPARED_AHEAD = 3

T = TypeVar("T")


@dataclass
class Findings:
    """What grows while the evaluation runs; an interrupted one is reported from here."""

    records: list[FrameRecord] = field(default_factory=list)
    worst: list[LabelledFrame] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def by_badness(self) -> list[LabelledFrame]:
        """Returns the worst frames, the worst first."""
        return sorted(self.worst, key=lambda frame: (-frame.record.badness, frame.record.index))


@dataclass(frozen=True)
class _Prepared:
    frame: LabelledFrame
    tensor: InputTensor | FrameError
    decode_ms: float = 0.0
    preprocess_ms: float = 0.0


def replay(pipeline: Pipeline, source: Source, findings: Findings) -> None:
    """Recognises every frame of a source once; Ctrl-C ends it early and is noted.

    Args:
        pipeline: The loaded model.
        source: The frames.
        findings: Where the results go.
    """
    prepared = _ahead((_prepare(frame, pipeline.spec.input) for frame in source.frames()), _PREPARED_AHEAD)
    started = time.perf_counter()
    try:
        for item in tqdm(prepared, total=source.count, desc="evaluating", unit="frame", disable=None):
            record = _recognise(pipeline, item)
            findings.records.append(record)
            _keep_if_bad(findings.worst, LabelledFrame(record, item.frame.source))
    except KeyboardInterrupt:
        findings.interrupted = True
    finally:
        prepared.close()
        findings.seconds = time.perf_counter() - started


def _prepare(frame: LabelledFrame, spec: InputSpec) -> _Prepared:
    if isinstance(frame.source, FrameError):
        return _Prepared(frame, frame.source)
    started = time.perf_counter()
    try:
        image = decode(frame.source)
    except FrameError as error:
        return _Prepared(frame, error)
    decoded = time.perf_counter()
    tensor = preprocess(image, spec)
    return _Prepared(frame, tensor, (decoded - started) * 1e3, (time.perf_counter() - decoded) * 1e3)


def _recognise(pipeline: Pipeline, item: _Prepared) -> FrameRecord:
    record = item.frame.record
    if isinstance(item.tensor, FrameError):
        return dataclasses.replace(record, error=item.tensor.reason, message=str(item.tensor))
    started = time.perf_counter()
    outputs = pipeline.model.run(item.tensor[np.newaxis])[0]
    inferred = time.perf_counter()
    try:
        prediction = postprocess(outputs, pipeline.spec)
    except FrameError as error:
        return dataclasses.replace(record, error=error.reason, message=str(error))
    inference_ms, postprocess_ms = (inferred - started) * 1e3, (time.perf_counter() - inferred) * 1e3
    rank, truth_score = -1, 0.0
    if record.truth is not None:
        truth = pipeline.spec.class_names.index(record.truth)
        rank, truth_score = true_rank(prediction.scores, truth), float(prediction.scores[truth])
    return dataclasses.replace(
        record,
        prediction=shortened(prediction, KEPT_CLASSES),
        truth_rank=rank,
        truth_score=truth_score,
        timings=Timings(item.decode_ms, item.preprocess_ms, inference_ms, postprocess_ms),
    )


def _keep_if_bad(worst: list[LabelledFrame], frame: LabelledFrame) -> None:
    """Keeps the few worst frames with their images, whatever the length of the recording.

    Neighbouring frames fail alike: a limit for each pair of classes leaves room for the other mistakes.
    """
    if frame.record.prediction is None:
        return
    alike = [other for other in worst if _confused(other.record) == _confused(frame.record)]
    if len(alike) < _WORST_ALIKE and len(worst) < _WORST_FRAMES:
        worst.append(frame)
        return
    best = min(alike if len(alike) >= _WORST_ALIKE else worst, key=lambda other: other.record.badness)
    if frame.record.badness > best.record.badness:
        worst[worst.index(best)] = frame


def _confused(record: FrameRecord) -> tuple[str | None, str | None]:
    return record.truth, record.prediction.name if record.prediction else None


def _ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yields the items in order while up to `depth` further ones are being made in a second thread."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]  # all but `end` is T
        finally:
            pool.shutdown(cancel_futures=True)
