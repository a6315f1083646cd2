"""Tries every candidate for a moment and takes the fastest; what was found is kept for this machine and these files."""

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
from cnn_perception.fastest.choice import Choice
from cnn_perception.model.nvidia import has_driver
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.providers import CPU, GPU_PROVIDERS, SessionOptions

_ALL_S = 2.0
"""For all candidates together, beside the time that it takes to load them, ..."""
_LEAST_RUNS = 5
"""... and longer where some runs of each take longer: a median of fewer would be that of the first, slow ones."""
_COMPARED = 4
"""Images of noise by which a provider is compared with the CPU."""


def load_fastest(
    path: Path, options: SessionOptions, log: Callable[[str], None], found: Choice | None = None
) -> tuple[OnnxModel, Choice]:
    """Loads the file of a network, on the execution provider, that answers soonest on this machine.

    A provider whose logits differ from the CPU's by more than the file's certificate allows is not taken.

    Args:
        path: A file of the network; those beside it are found by their names, see `candidates.files_of`.
        options: How it is to be run; its providers are tried, in any order.
        log: Is told what takes a while, before it does.
        found: What another process has just found with the same options, which is not tried again; None for nothing.

    Returns:
        The model, and what was found.

    Raises:
        ModelError: If the file cannot be used.
        ConfigError: If a GPU is required and none runs it.
    """
    candidates = candidates_of(path, options)
    kept = choice_cache.read(candidates, options)
    for known in filter(None, (found, kept)):
        model = _load_found(known.among(candidates), options, log)
        if model is None:
            continue
        if known.lasts and kept is None:
            choice_cache.write(candidates, options, known, log)
        return model, known
    log(f"trying which of {len(candidates)} ways to run {path} is the fastest")
    trials = _run(candidates, options, log)
    ranked = [one for one in trials.ranked if one.provider in GPU_PROVIDERS or not options.require_gpu]
    if not ranked:  # which is refused in the words that it is refused in otherwise
        model = OnnxModel(path, options, log)
        return model, Choice(model.sha256, model.provider, trials.text, lasts=False)
    choice = Choice(ranked[0].file.sha256, ranked[0].provider, trials.text, lasts=not trials.lacks_gpu)
    if choice.lasts:
        choice_cache.write(candidates, options, choice, log)
    return _load(ranked[0], options, log), choice


def _load_found(candidate: Candidate | None, options: SessionOptions, log: Callable[[str], None]) -> OnnxModel | None:
    """Returns the model as it was found to be the fastest; None where there is none, or it does not run so any more."""
    if candidate is None:
        return None
    try:
        model = _load(candidate, options, log)
    except ModelError:
        return None
    return model if model.provider == candidate.provider else None


@dataclass(frozen=True, eq=False)
class _Trials:
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
    def lacks_gpu(self) -> bool:
        """Whether a GPU that has a driver could not be used, as where its memory is full: the next time it may be."""
        return has_driver() and any(one.provider in GPU_PROVIDERS for one in self.refused)

    @property
    def text(self) -> str:
        """All of it in one line."""
        times = [f"{one.text} {self.times_ms[one]:.1f} ms" for one in self.ranked]
        return "; ".join([*times, *(f"{one.text} {reason}" for one, reason in self.refused.items())])


def _run(candidates: Sequence[Candidate], options: SessionOptions, log: Callable[[str], None]) -> _Trials:
    trials = _Trials()
    budget_s = _ALL_S / len(candidates)
    for file, providers in _by_file(candidates):
        expected: FloatArray | None = None  # the file's logits on the CPU
        for provider in providers:
            candidate = Candidate(file, provider)
            try:
                found = _try(candidate, expected, budget_s, options, log)
            except (ModelError, FrameError) as error:
                if provider == CPU and file is candidates[0].file:  # the file that was asked for
                    raise
                trials.refused[candidate] = f"fails ({one_line(error)})"
                continue
            expected = found.logits if provider == CPU else expected
            if found.refusal:
                trials.refused[candidate] = found.refusal
            else:
                trials.times_ms[candidate] = found.time_ms
    return trials


@dataclass(frozen=True, eq=False)
class _Found:
    """What came of one candidate: why it is not taken, or its median milliseconds; and its logits of some images."""

    logits: FloatArray
    refusal: str
    time_ms: float = 0.0


def _try(
    candidate: Candidate,
    expected: FloatArray | None,
    budget_s: float,
    options: SessionOptions,
    log: Callable[[str], None],
) -> _Found:
    """Loads a candidate, compares it with the CPU, times it, and frees it before the next one is loaded."""
    model = _load(candidate, options, log)
    logits = _logits(model)
    if model.provider != candidate.provider:
        reason = model.fallback.removeprefix(candidate.provider).strip()
        return _Found(logits, reason or f"runs mostly on {model.provider}")
    if candidate.provider != CPU:
        if expected is None:
            return _Found(logits, "cannot be compared with the CPU, which does not run it")
        if reason := _difference(logits, expected, model.spec.parity.tolerance):
            return _Found(logits, reason)
    return _Found(logits, "", _median_ms(model, max(options.warm_up_batches), budget_s))


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
