"""Runs every candidate for a moment and takes the fastest; what was found is kept for this machine and these files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnn_perception.errors import FrameError, ModelError, one_line
from cnn_perception.fastest import choice_cache
from cnn_perception.fastest.candidates import Candidate, ModelFile, candidates_of
from cnn_perception.fastest.choice_cache import Kept
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.providers import CPU, SessionOptions

_RACE_S = 2.0
"""For all candidates together, beside the time that it takes to load them."""
_LEAST_RUNS = 5
_COMPARED = 4
"""Images of noise by which a provider is compared with the CPU."""


def load_fastest(path: Path, options: SessionOptions, log: Callable[[str], None]) -> tuple[OnnxModel, str]:
    """Loads the file of a network, on the execution provider, that answers soonest on this machine.

    A provider whose logits differ from the CPU's by more than the file's certificate allows is not taken.

    Args:
        path: A file of the network; those beside it are found by their names, see `candidates.files_of`.
        options: How it is to be run; its providers are tried, in any order.
        log: Is told what takes a while, before it does.

    Returns:
        The model, and what each candidate took, in one line.

    Raises:
        ModelError: If the file cannot be used.
        ConfigError: If a GPU is required and none runs it.
    """
    candidates = candidates_of(path, options)
    kept = choice_cache.read(candidates, options)
    if kept is not None:
        model = _load(kept.candidate, options, log)
        if model.provider == kept.candidate.provider:
            return model, kept.text
    log(f"trying which of {len(candidates)} ways to run {path} is the fastest")
    race = _run(candidates, options, log)
    if race.best is None:
        return OnnxModel(path, options, log), race.text
    choice_cache.write(candidates, options, Kept(race.best, race.text), log)
    return _load(race.best, options, log), race.text


@dataclass(frozen=True, eq=False)
class _Race:
    """What came of the candidates.

    Attributes:
        times_ms: Median milliseconds of those that can be taken.
        refused: Why others cannot.
    """

    times_ms: dict[Candidate, float] = field(default_factory=dict)
    refused: dict[Candidate, str] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Candidate]:
        """Those that can be taken, the fastest first."""
        return sorted(self.times_ms, key=lambda one: self.times_ms[one])

    @property
    def best(self) -> Candidate | None:
        """The fastest; None where none can be taken."""
        return next(iter(self.ranked), None)

    @property
    def text(self) -> str:
        """All of it in one line."""
        times = [f"{one.text} {self.times_ms[one]:.1f} ms" for one in self.ranked]
        return "; ".join([*times, *(f"{one.text} {reason}" for one, reason in self.refused.items())])


def _run(candidates: Sequence[Candidate], options: SessionOptions, log: Callable[[str], None]) -> _Race:
    race = _Race()
    budget_s = _RACE_S / len(candidates)
    for file, providers in _by_file(candidates):
        expected: FloatArray | None = None
        for provider in providers:
            candidate = Candidate(file, provider)
            try:
                model = _load(candidate, options, log)
                if model.provider != provider:
                    race.refused[candidate] = model.fallback.removeprefix(provider).strip()
                    continue
                found = _logits(model)
                expected = found if expected is None else expected
                if reason := _difference(found, expected, file.spec.parity.tolerance):
                    race.refused[candidate] = reason
                    continue
                race.times_ms[candidate] = _median_ms(model, max(options.warm_up_batches), budget_s)
            except (ModelError, FrameError) as error:
                if provider == CPU and file is candidates[0].file:
                    raise
                race.refused[candidate] = f"fails ({one_line(error)})"
    return race


def _by_file(candidates: Sequence[Candidate]) -> Iterator[tuple[ModelFile, list[str]]]:
    """Yields each file with its providers, the CPU first: it says what the others have to answer."""
    for file in dict.fromkeys(one.file for one in candidates):
        providers = [one.provider for one in candidates if one.file is file]
        yield file, sorted(providers, key=lambda name: name != CPU)


def _load(candidate: Candidate, options: SessionOptions, log: Callable[[str], None]) -> OnnxModel:
    alone = dataclasses.replace(options, providers=(candidate.provider,), require_gpu=False)
    model = OnnxModel(candidate.file.path, alone, log)
    if model.sha256 != candidate.file.sha256:
        raise ModelError(f"{candidate.file.path}: has been replaced while it was loaded; load it again")
    return model


def _noise(model: OnnxModel, count: int) -> FloatArray:
    """Returns inputs (count, 3, height, width) of mean 0 and standard deviation 1, as normalised images have."""
    size = model.spec.input
    return np.random.default_rng(0).standard_normal((count, 3, size.height, size.width), np.float32)


def _logits(model: OnnxModel) -> FloatArray:
    images = _noise(model, _COMPARED)
    return np.stack([model.run(image[np.newaxis], activation=False)[0].logits for image in images])


def _difference(found: FloatArray, expected: FloatArray, tolerance: float) -> str:
    """Says that logits are too far from the CPU's; empty where they are near."""
    share = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-20))
    if share <= tolerance:
        return ""
    return f"answers otherwise than the CPU (logits by {share:.2g} of the largest, {tolerance:g} allowed)"


def _median_ms(model: OnnxModel, batch_size: int, budget_s: float) -> float:
    images = _noise(model, batch_size)
    end_s = time.perf_counter() + budget_s
    times_s: list[float] = []
    while len(times_s) < _LEAST_RUNS or time.perf_counter() < end_s:
        began_s = time.perf_counter()
        model.run(images)
        times_s.append(time.perf_counter() - began_s)
    return float(np.median(times_s)) * 1e3
