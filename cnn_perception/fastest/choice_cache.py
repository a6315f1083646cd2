"""Keeps what was found to be the fastest, by machine, files and settings, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime

from cnn_perception.fastest.candidates import Candidate
from cnn_perception.fastest.choice import Choice
from cnn_perception.files import as_utf8, replacing
from cnn_perception.model.nvidia import read_gpu
from cnn_perception.model.providers import SessionOptions, cache_root

_CPU_INFO = Path("/proc/cpuinfo")
_LARGEST_BYTES = 100_000


def read(candidates: Sequence[Candidate], options: SessionOptions) -> Choice | None:
    """Returns what was found of these candidates on this machine before; None where nothing was, or it is damaged."""
    try:
        data = _place(candidates, options).read_bytes()[:_LARGEST_BYTES]
    except (OSError, LookupError):
        return None
    return Choice.from_json(data)


def write(candidates: Sequence[Candidate], options: SessionOptions, found: Choice, log: Callable[[str], None]) -> None:
    """Keeps it; where that cannot be, it is said and found anew the next time."""
    try:
        place = _place(candidates, options)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as file:
            file.write(as_utf8(f"{found.to_json()}\n"))
    except (OSError, LookupError) as error:
        log(f"what is the fastest will be tried at each start, for it cannot be kept: {error}")


def _place(candidates: Sequence[Candidate], options: SessionOptions) -> Path:
    asked = {
        "machine": _machine(options),
        "candidates": sorted([one.file.sha256, one.provider] for one in candidates),
        "threads": options.intra_op_threads,
        "batch": max(options.warm_up_batches),
        "require_gpu": options.require_gpu,
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return cache_root(options) / "fastest" / f"{digest}.json"


def _machine(options: SessionOptions) -> list[str]:
    """Returns what decides on how fast a network runs here."""
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    cpu = next((line for line in lines if line.startswith("model name")), platform.machine())
    try:
        gpu = read_gpu(options.device_id)
        shown = f"{gpu.name}, CUDA {gpu.cuda}"
    except LookupError:
        shown = "no GPU"
    return [cpu, str(os.cpu_count()), shown, str(onnxruntime.__version__)]
