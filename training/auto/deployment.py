"""What candidates would cost on the robot: their model files in the wanted precision, made and timed on this machine.

Candidates without a model file, or with one that takes too long to learn or to answer, are refused.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.errors import ConfigError, PerceptionError, one_line
from cnn_perception.model.onnx_model import OnnxModel
from training import checkpoint, config
from training.auto import table, trial
from training.auto.asked import Asked, Precision
from training.auto.budget import Budget, TimeUp, at_most
from training.auto.candidate import Candidate, epochs_of, fewest_epochs
from training.auto.costs import MARGIN, Costs
from training.auto.record import Record
from training.auto.table import Line
from training.auto.trial import open_fold
from training.checkpoint import Checkpoint
from training.data.records import LabelledImages
from training.export import export
from training.export.answering import ANY_DIFFERENCE, ANY_LOSS
from training.graphs.quantise import Reduction

_OF_FILES = 0.3
"""Share of the time that the making of model files may take before anything is learned."""
_TO_SAY_S = 60.0
"""For measuring the first network however short the time is: without it nobody knows what would suffice."""
_SECONDS = 3.0
"""For the timing of all files together, as far as the fewest rounds allow."""
_FEWEST, _MOST = 7, 51
_IMAGES = 8
"""Training images that stand for all where only the time of a graph is wanted."""


class TooShortError(ConfigError):
    """The time does not suffice for a model of a network.

    Attributes:
        least_s: What would suffice.
    """

    def __init__(self, message: str, least_s: float) -> None:
        super().__init__(message)
        self.least_s = least_s


class TooSlow(Exception):  # noqa: N818  (no error: an answer)
    """No candidate is as fast as the user wants."""


@dataclass(eq=False)
class ModelFiles:
    """The model files of the candidates, and what their work takes.

    Attributes:
        asked: What the user asked for.
        budget: The time.
        record: What is kept; the files are in its folder `files`.
        whole: The data set.
        given: Settings of the data and the computing.
        read_s: What the reading of the data took.
        costs: Of each graph that has a model file.
    """

    asked: Asked
    budget: Budget
    record: Record
    whole: LabelledImages
    given: dict[str, Any]
    read_s: float
    costs: dict[str, Costs] = field(init=False, default_factory=dict)
    _too_short: list[TooShortError] = field(init=False, default_factory=list)

    def refused(self, found: Sequence[Candidate]) -> Iterator[tuple[Candidate, str]]:
        """Makes and times model files; yields the candidates that cannot be tried, and why, as soon as it is known."""
        unknown: dict[str, Candidate] = {}
        for one in _smallest_first(found):
            if one.graph not in self.costs:
                unknown.setdefault(one.graph, one)
        for one in unknown.values():
            allowed_s = self._for_files_s() if self.costs else max(self.budget.left_s, _TO_SAY_S)
            if ended := self._measured(one, allowed_s):
                yield from ((other, ended) for other in found if other.graph == one.graph)
        if self.costs and unknown:
            self._time_all()
        yield from ((one, f"slower than {self.asked.max_latency_ms:g} ms") for one in found if self.is_slow(one))

    def _measured(self, one: Candidate, allowed_s: float) -> str:
        """Measures a candidate in some time; returns why it cannot be tried, if it cannot."""
        try:
            with at_most(allowed_s):
                self._measure(one)
        except TimeUp:
            return "no time to make its model file"
        except TooShortError as error:
            self._too_short.append(error)
            return "no time for it at all"
        except PerceptionError as error:
            return one_line(error, table.SHORT)
        return ""

    def _for_files_s(self) -> float:
        return _OF_FILES * self.budget.seconds - self.budget.used_s

    def _measure(self, one: Candidate) -> None:
        """Makes the model file of a candidate, and notes what its work takes."""
        self.budget.say(f"{one.name}: making a model file to be timed")
        before_s = self.budget.used_s
        chosen = config.make(**{**one.settings, **self.given, "output": str(self.record.folder / "files")})
        forward_s, learn_s = trial.speed(chosen, self.whole)
        known = self.record.files.get(one.graph)
        path = self._place(one.graph)
        if known is None or not path.is_file():
            made_s = self.budget.used_s
            model_file(one, self.given, self.whole, self.asked.precision, path)
            known = {"export_s": self.budget.used_s - made_s, "size_bytes": path.stat().st_size}
            self.record.files[one.graph] = known
        costs = Costs(self.read_s, forward_s, learn_s, known["export_s"])
        self._require_time(one, costs, self.budget.used_s - before_s)
        self.costs[one.graph] = costs

    def _time_all(self) -> None:
        """Times all model files in turn, so that they are compared under the same conditions."""
        self.budget.say(f"timing {len(self.costs)} model files in turn")
        found = latencies_ms({name: self._place(name) for name in self.costs})
        for name, latency_ms in found.items():
            self.record.files[name]["latency_ms"] = latency_ms
        self.record.write()

    def _require_time(self, one: Candidate, costs: Costs, measuring_s: float) -> None:
        """Refuses a network at once for whose training there is no time, however short it is."""
        fewest = fewest_epochs(one, epochs_of(one, self.given))
        needed_s = MARGIN * (costs.fit_s(one, fewest, self.whole) + costs.fixed_s(one, self.whole))
        least_s = self.budget.used_s + needed_s
        if least_s > self.budget.seconds:
            minutes = math.ceil(12 * least_s / 60) / 10
            raise TooShortError(
                f"--minutes {self.asked.minutes:g}: too short; the least for this data set here is about {minutes:g}: "
                f"{self.read_s:.0f} s to read it, {measuring_s:.0f} s to measure {one.name}, {needed_s:.0f} s to "
                "train and export it",
                least_s,
            )

    def is_slow(self, one: Candidate) -> bool:
        """Returns whether the model file of a candidate takes longer than the user wants."""
        limit = self.asked.max_latency_ms
        return one.graph in self.costs and limit is not None and self.known(one)["latency_ms"] > limit

    def precision(self, one: Candidate) -> Precision:
        """Returns the precision of a candidate's model file: float32 where the wanted one costs it too much."""
        return "fp32" if self.missed(one) else self.asked.precision

    def missed(self, one: Candidate) -> str:
        """Returns why the model file of a candidate is not in the wanted precision; empty where it is."""
        return str(self.record.tried.get(one.folder, {}).get("missed", ""))

    def known(self, one: Candidate) -> dict[str, float]:
        """Returns what the record says of a candidate's model file; nothing where it has none."""
        return self.record.files.get(_in_fp32(one) if self.missed(one) else one.graph, {})

    def fall_back(self, one: Candidate) -> None:
        """Makes and times the float32 file of a candidate that the wanted precision costs too much."""
        path = self._place(_in_fp32(one))
        if _in_fp32(one) in self.record.files and path.is_file():
            return
        model_file(one, self.given, self.whole, "fp32", path)
        (latency_ms,) = latencies_ms({one.name: path}).values()
        known = {**self.record.files[one.graph], "size_bytes": path.stat().st_size, "latency_ms": latency_ms}
        self.record.files[_in_fp32(one)] = known

    def _place(self, name: str) -> Path:
        return self.record.folder / "files" / f"{name}.onnx"

    def refusal(self, lines: Collection[Line]) -> Exception:
        """Returns why none of the candidates can be tried, by the lines that they have got in the table."""
        known = [line for line in lines if line.latency_ms is not None]
        if not known and self._too_short:
            return min(self._too_short, key=lambda error: error.least_s)
        if not known:
            first = next((f": {line.name}: {line.ended}" for line in lines), "")
            return ConfigError(f"no network can be tried{first}; name others by --backbones and --weights")
        nearest = min(known, key=lambda line: line.latency_ms or 0.0)
        return TooSlow(
            f"no network takes at most {self.asked.max_latency_ms:g} ms here; the nearest is {nearest.name} with "
            f"{nearest.latency_ms:.3g} ms, of {nearest.size_mb:.1f} MB in {nearest.precision}; give smaller "
            "--backbones, a smaller --input-size or a higher --max-latency-ms"
        )


def _smallest_first(found: Sequence[Candidate]) -> list[Candidate]:
    def pixels(one: Candidate) -> int:
        height, width = one.settings.get("input_size", (224, 224))
        return int(height) * int(width)

    return sorted(found, key=pixels)


def model_file(
    candidate: Candidate, given: Mapping[str, Any], data: LabelledImages, precision: Precision, path: Path
) -> None:
    """Writes the model file of a candidate before it learns: the time of an image does not depend on what it knows.

    Raises:
        PerceptionError: If the network cannot be had or exported.
    """
    work = path.with_suffix("")
    chosen = config.make(**{**candidate.settings, **given, "output": str(work)}, unknown="none")
    run = open_fold(chosen, data)
    run.save(["best.pt"], {}, None)
    saved = _few_images(checkpoint.load(work / "best.pt"))
    shutil.rmtree(work)
    reduction = None if precision == "fp32" else Reduction(precision, calibration_images=_IMAGES, max_loss=ANY_LOSS)
    export(saved, path, tolerance=ANY_DIFFERENCE, parity_images=2, reduction=reduction)


def _in_fp32(one: Candidate) -> str:
    return f"{one.graph}-fp32"


def _few_images(saved: Checkpoint) -> Checkpoint:
    """The checkpoint with a few training images in place of all, and none of the validation part."""
    few = saved.train_images[:_IMAGES]
    targets = saved.train_targets[:_IMAGES]
    return dataclasses.replace(saved, train_images=few, train_targets=targets, val_images=few, val_targets=targets)


def latencies_ms(paths: Mapping[str, Path]) -> dict[str, float]:
    """Returns the median milliseconds of an image by each model file; they are run in turn, as the machine drifts."""
    models = {name: OnnxModel(path) for name, path in paths.items()}
    images = {name: _image(model) for name, model in models.items()}
    first = {name: _once_ms(model, images[name]) for name, model in models.items()}
    rounds = int(np.clip(1000 * _SECONDS / max(sum(first.values()), 1e-6), _FEWEST, _MOST))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            times[name].append(_once_ms(model, images[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def _image(model: OnnxModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    size = model.spec.input
    return np.random.default_rng(0).standard_normal((1, 3, size.height, size.width), np.float32)


def _once_ms(model: OnnxModel, image: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    started_s = time.perf_counter()
    model.run(image)
    return 1000 * (time.perf_counter() - started_s)
