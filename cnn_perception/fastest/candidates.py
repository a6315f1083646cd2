"""Which files are the same network in another precision, and on what each of them may be run."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.errors import ModelError
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.onnx_model import read_spec
from cnn_perception.model.providers import SessionOptions
from cnn_perception.model.spec import ModelSpec

_SUFFIXES = ("_int8", "_fp16")
"""By which the documentation tells the files of one network apart; only these are opened, for each is read whole."""


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A file of the network that is to be run.

    Attributes:
        path: Where it is.
        sha256: Hex digest of its bytes.
        spec: Its description.
    """

    path: Path
    sha256: str
    spec: ModelSpec


@dataclass(frozen=True)
class Candidate:
    """A file on an execution provider."""

    file: ModelFile
    provider: str

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.file.path.name} on {self.provider}"


def files_of(path: Path) -> list[ModelFile]:
    """Returns a model file, and those beside it that are the same network in another precision.

    `NAME.onnx`, `NAME_int8.onnx` and `NAME_fp16.onnx` belong together where their descriptions say that they were
    exported from one training run, with the same preprocessing and calibration, and give the same outputs: each was
    written only because its own certificate and accuracy kept what was asked of them.

    Raises:
        ModelError: If the file itself cannot be used.
    """
    own = _read(path)
    found = [own]
    for other in _beside(path):
        try:
            file = _read(other)
        except ModelError:
            continue  # nobody has asked for it
        if _network_of(file.spec) == _network_of(own.spec):
            found.append(file)
    return found


def candidates_of(path: Path, options: SessionOptions) -> list[Candidate]:
    """Returns every file on every provider that is to be tried, the given file on the CPU among them.

    Raises:
        ModelError: If the file itself cannot be used.
    """
    return [Candidate(file, provider) for file in files_of(path) for provider in options.provider_order]


def _beside(path: Path) -> list[Path]:
    real = Path(os.path.realpath(path))
    stem = real.stem
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    others = [real.with_name(f"{stem}{suffix}{real.suffix}") for suffix in ("", *_SUFFIXES)]
    # A link may lead out of the folder in which models are allowed.
    return [one for one in others if one != real and one.is_file() and not one.is_symlink()]


def _read(path: Path) -> ModelFile:
    file = read_onnx_file(path)
    return ModelFile(path, file.sha256, read_spec(path, file.metadata))


def _network_of(spec: ModelSpec) -> dict[str, Any]:
    """Returns what files of one network have in common, whatever their precision and when they were exported.

    An unknown rule is fitted to the answers of each file, and statistics are measured with it.
    """
    common = {one.name: getattr(spec, one.name) for one in dataclasses.fields(spec)}
    for name in ("version", "precision", "parity"):
        del common[name]
    common["training"] = dataclasses.replace(spec.training, code_version="", created="")
    common["unknown"] = spec.unknown is not None
    common["statistics"] = spec.statistics is not None
    return common
