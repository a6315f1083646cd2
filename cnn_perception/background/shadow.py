"""A second model that answers the same frames without publishing: how often do the two disagree?

It runs in the background, on the newest frame whenever it is done with the last, the cameras in turn.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from cnn_perception.background.worker import BackgroundWorker
from cnn_perception.errors import ConfigError, FrameError, with_kind
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

_KEPT = 5
"""So many of the latest disagreements, and of the most frequent ones, are reported."""


@dataclass(frozen=True)
class ShadowReport:
    """How the shadow compares so far.

    Attributes:
        compared: Frames that both answered.
        disagreed: How many of these they answered differently; numbers are never equal, and not counted.
        failed: Frames that the shadow could not answer.
        skipped: Frames that were offered and never begun, because a newer one came.
        differences: Mean absolute difference of each number, in its unit; empty unless they are regression models.
        pairs: The most frequent disagreements: the answer, the shadow's answer, how often. For multilabel a class
            that one of them saw is paired with `not seen`.
        latest: The latest disagreements in words, the newest last.
        problem: The defect that ended the comparison, or that it hangs, in one line; empty while all is well.
    """

    compared: int
    disagreed: int
    failed: int
    skipped: int
    differences: dict[str, float]
    pairs: tuple[tuple[str, str, int], ...]
    latest: tuple[str, ...]
    problem: str

    @property
    def rate(self) -> float:
        """Share of the compared frames that were answered differently, in [0, 1]; 0 before the first."""
        return self.disagreed / self.compared if self.compared else 0.0

    def values(self) -> dict[str, str]:
        """Returns the figures for /diagnostics."""
        found = {"shadow": self.problem or "comparing", "shadow: compared": str(self.compared)}
        if self.differences:
            found |= {f"shadow: mean difference of {name}": f"{v:.4g}" for name, v in self.differences.items()}
        else:
            found |= {"shadow: disagreed": str(self.disagreed), "shadow: disagreement rate": f"{self.rate:.4f}"}
        found |= {"shadow: failed": str(self.failed), "shadow: skipped": str(self.skipped)}
        if self.pairs:
            found["shadow: most frequent"] = "; ".join(f"{ours} / {its}: {count}" for ours, its, count in self.pairs)
        if self.latest:
            found["shadow: latest"] = "; ".join(self.latest)
        return found


@dataclass(frozen=True, eq=False)
class _AnsweredFrame:
    """A frame and the running model's answer to it."""

    image: RgbImage
    prediction: Prediction
    camera: str
    stamp_ns: int


class Shadow:
    """Compares a second model's answers with those of the running one, by the names of the classes.

    Attributes:
        note: Which classes only one of the two knows, in one line; empty if there are none.
    """

    def __init__(self, pipeline: Pipeline, running: ModelSpec, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the thread; a model that is swapped needs a new shadow.

        Args:
            pipeline: The second model; with `intra_op_threads=1` it runs in the low-priority thread of this class
                alone.
            running: Of the model whose predictions are offered.
            on_failure: Called in the thread with a defect that has ended it.

        Raises:
            ConfigError: If the two answer different questions.
        """
        _check_comparable(pipeline, running)
        self._pipeline = pipeline
        self._task = task_of(running.task)
        self._common = tuple(name for name in running.class_names if name in pipeline.spec.class_names)
        self.note = _only_one_knows(running, pipeline.spec)
        self._lock = threading.Lock()
        self._compared = self._disagreed = self._failed = 0
        self._sums = {} if self._task.has_classes else dict.fromkeys(self._common, 0.0)
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._latest: deque[str] = deque(maxlen=_KEPT)
        self._worker = BackgroundWorker("shadow", self._compare, on_failure)

    def offer(self, image: RgbImage, prediction: Prediction, camera: str, stamp_ns: int) -> bool:
        """Compares a frame, unless a newer one of the camera comes before the shadow has the time.

        Args:
            image: The decoded frame; nobody may change it any more.
            prediction: The running model's, before any smoothing.
            camera: Its name.
            stamp_ns: Stamp of the image's header, nanoseconds.

        Returns:
            False if another frame is skipped for it, or nothing is compared any more.
        """
        return self._worker.offer(camera, _AnsweredFrame(image, prediction, camera, stamp_ns))

    @property
    def disputes(self) -> tuple[int, str]:
        """How many frames were answered otherwise so far, and the latest of them in words; may be read anywhere."""
        with self._lock:
            return self._disagreed, self._latest[-1] if self._latest else ""

    def report(self) -> ShadowReport:
        """Returns the comparison so far; may be called from any thread."""
        failure = self._worker.failure
        with self._lock:
            return ShadowReport(
                compared=self._compared,
                disagreed=self._disagreed,
                failed=self._failed,
                skipped=self._worker.overtaken,
                differences={name: total / max(self._compared, 1) for name, total in self._sums.items()},
                pairs=tuple((*pair, count) for pair, count in self._pairs.most_common(_KEPT)),
                latest=tuple(self._latest),
                problem=self._worker.overdue() if failure is None else f"stopped by a defect ({with_kind(failure)})",
            )

    def close(self, timeout_s: float) -> bool:
        """Ends the thread; called a second time it is quick.

        Args:
            timeout_s: How long to wait for the frames that were offered. After that the model is made to give up, and
                is waited for as long again: a process that ends during a run of the model would be aborted.

        Returns:
            Whether the thread has ended.
        """
        if self._worker.close(timeout_s):
            return True
        self._pipeline.model.cancel()
        return self._worker.close(timeout_s)

    def _compare(self, frame: _AnsweredFrame) -> None:
        try:
            its = self._pipeline.recognise(frame.image)
        except FrameError:
            with self._lock:
                self._failed += 1
            return
        with self._lock:
            self._compared += 1
            for name, difference in self._task.differences(frame.prediction, its, self._common).items():
                self._sums[name] += difference
            if pairs := self._task.disagreements(frame.prediction, its, self._common):
                self._disagreed += 1
                self._pairs.update(pairs)
                self._latest.append(self._in_words(frame, its))

    def _in_words(self, frame: _AnsweredFrame, its: Prediction) -> str:
        where = f"{frame.camera} {frame.stamp_ns / 1e9:.3f}".strip()
        ours = self._task.scored_text(frame.prediction, _KEPT)
        return f"{where}: {ours}, shadow {self._task.scored_text(its, _KEPT)}"


def _check_comparable(pipeline: Pipeline, running: ModelSpec) -> None:
    """Raises ConfigError if two models answer different questions."""
    spec = pipeline.spec
    path = pipeline.model.path
    if spec.task != running.task:
        raise ConfigError(f"{path}: the shadow is a {spec.task} model, the running one {running.task}; choose another")
    common = set(spec.class_names) & set(running.class_names)
    if not common:
        raise ConfigError(f"{path}: the shadow has no class or number in common with the running model; choose another")
    units, running_units = (dict(zip(s.class_names, s.units, strict=False)) for s in (spec, running))
    for name in sorted(common & units.keys()):
        if units[name] != running_units[name]:
            raise ConfigError(
                f"{path}: the shadow's {name} is in {units[name] or 'no unit'}, the running model's in "
                f"{running_units[name] or 'no unit'}; choose another"
            )


def _only_one_knows(running: ModelSpec, shadow: ModelSpec) -> str:
    """Returns which classes only one of two models has, in one line; empty if there are none."""
    parts = []
    for who, spec, other in (("the running model", running, shadow), ("the shadow", shadow, running)):
        if names := [name for name in spec.class_names if name not in other.class_names]:
            more = f" and {len(names) - _KEPT} more" if len(names) > _KEPT else ""
            parts.append(f"only {who} knows {', '.join(names[:_KEPT])}{more}")
    return "; ".join(parts)
