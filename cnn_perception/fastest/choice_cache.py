"""Keeps what was found to be the fastest, by machine, files and settings, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from cnn_perception.fastest.candidates import Candidate
from cnn_perception.files import as_utf8, replacing
from cnn_perception.model.nvidia import read_gpu
from cnn_perception.model.providers import SessionOptions, cache_root

_CPU_INFO = Path("/proc/cpuinfo")
_LARGEST_BYTES = 100_000
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class Kept:
    """What was found.

    Attributes:
        candidate: The fastest.
        text: What all of them took, in one line.
    """

    candidate: Candidate
    text: str


def read(candidates: Sequence[Candidate], options: SessionOptions) -> Kept | None:
    """Returns what was found of these candidates on this machine before; None where nothing was, or it is damaged."""
    try:
        data = _place(candidates, options).read_bytes()[:_LARGEST_BYTES]
        kept = json.loads(data)
        sha256, provider, text = kept["sha256"], kept["provider"], kept["text"]
    except (OSError, LookupError, ValueError, TypeError, RecursionError):
        return None
    found = next((one for one in candidates if (one.file.sha256, one.provider) == (sha256, provider)), None)
    if found is None or not isinstance(text, str) or not text.isprintable():
        return None
    return Kept(found, text[:_MOST_CHARACTERS])


def write(candidates: Sequence[Candidate], options: SessionOptions, kept: Kept, log: Callable[[str], None]) -> None:
    """Keeps it; where that cannot be, it is said and found anew the next time."""
    found = {"sha256": kept.candidate.file.sha256, "provider": kept.candidate.provider, "text": kept.text}
    try:
        place = _place(candidates, options)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as file:
            file.write(as_utf8(json.dumps(found, indent=1) + "\n"))
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
