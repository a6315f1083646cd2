"""A model file, loaded and verified, on the execution provider that is really in use. The only onnxruntime import."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cnn_perception.errors import ConfigError, FrameError, ModelError
from cnn_perception.postprocess import FloatArray, Outputs
from cnn_perception.spec import METADATA_KEY, ModelSpec

DEFAULT_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Tried in this order; the CPU is the visible fall-back."""

INPUT_NAME = "image"
_WARNING, _FATAL = 2, 4  # severities of ONNX Runtime's log
_LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message, and so for a self-contained ONNX file


@dataclass(frozen=True)
class SessionOptions:
    """How a model is run.

    Attributes:
        providers: ONNX Runtime execution providers, the preferred first.
        intra_op_threads: Threads of one inference on the CPU; 0 lets ONNX Runtime take one a physical core.
        warm_up_batches: Batch sizes that are run once at load, so that no frame pays for the first allocation.
    """

    providers: Sequence[str] = DEFAULT_PROVIDERS
    intra_op_threads: int = 0
    warm_up_batches: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        if not self.providers or not all(self.providers):
            raise ConfigError(f"providers is empty; choose from {onnxruntime.get_all_providers()}")
        unknown = [name for name in self.providers if name not in onnxruntime.get_all_providers()]
        if unknown:
            known = onnxruntime.get_all_providers()
            raise ConfigError(f"providers: ONNX Runtime has no {unknown}; choose from {known}")
        if not 0 <= self.intra_op_threads <= 1024:
            raise ConfigError(f"intra_op_threads is {self.intra_op_threads}; choose 0 (automatic) to 1024")


class OnnxModel:
    """One ONNX file in memory, verified against its own spec and warmed up.

    Attributes:
        path: The file it came from.
        sha256: Hex digest of the file's bytes.
        spec: The description found in the file.
        provider: The execution provider really in use.
        fallback: Why it is not the preferred one, in one line; empty when it is.
    """

    def __init__(self, path: Path, options: SessionOptions | None = None) -> None:
        """Loads, verifies and warms up.

        Raises:
            ModelError: If the file cannot be used; names the file, what is wrong and what to do.
        """
        options = options or SessionOptions()
        data = _read_file(path)
        self.path = path
        self.sha256 = hashlib.sha256(data).hexdigest()
        preferred = options.providers[0]
        self._session, printed = _open_session(path, data, options)
        self.spec = _read_spec(path, self._session)
        self._outputs = _verify_graph(path, self._session, self.spec)
        self.provider: str = self._session.get_providers()[0]
        self.fallback = "" if self.provider == preferred else _why_not(preferred, printed)
        # Without this, ONNX Runtime computes the whole graph, wanted or not.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        for batch_size in options.warm_up_batches:
            self._warm_up(batch_size)

    def run(self, images: FloatArray, activation: bool = True) -> list[Outputs]:
        """Runs one batch.

        Args:
            images: (N, 3, height, width) float32, C-contiguous, from `preprocess`.
            activation: Whether the activation maps are wanted; without them the graph that makes them is not run.

        Returns:
            N outputs, in order.

        Raises:
            FrameError: If the provider fails on this batch.
        """
        names = self._outputs if activation else [name for name in self._outputs if name != "activation"]
        try:
            values = self._session.run(names, {INPUT_NAME: images}, self._run_options)
        except _ORT_ERRORS as error:  # such as a GPU out of memory: this frame is lost, the next may not be
            raise FrameError("inference", f"ONNX Runtime failed: {_one_line(error)}") from None
        found = dict(zip(names, values, strict=True))
        maps = found.get("activation")
        return [
            Outputs(found["logits"][i], None if maps is None else maps[i], found["embedding"][i])
            for i in range(len(images))
        ]

    def _warm_up(self, batch_size: int) -> None:
        size = self.spec.input
        outputs = self.run(np.zeros((batch_size, 3, size.height, size.width), np.float32))
        grid = self.spec.activation
        found = outputs[0].activation
        if len(outputs) != batch_size or outputs[0].logits.shape != (len(self.spec.class_names),):
            raise ModelError(f"{self.path}: logits are {outputs[0].logits.shape}, not one per name; export it again")
        lengths = {len(centre) for centre in self.spec.unknown.centres} if self.spec.unknown else set()
        if lengths - {len(outputs[0].embedding)}:
            raise ModelError(
                f"{self.path}: its unknown rule is for embeddings of {lengths.pop()} numbers, "
                f"the graph has {len(outputs[0].embedding)}; export it again"
            )
        if grid is not None and (found is None or found.shape != (grid.rows, grid.columns)):
            raise ModelError(f"{self.path}: the activation map is not {grid.rows}x{grid.columns}; export it again")


def _read_file(path: Path) -> bytes:
    """Reads the whole file: loading from memory leaves ONNX no folder from which to pull in external data."""
    if not str(path) or str(path) == ".":
        raise ModelError("no model is given; set `model` to an .onnx file made by training.export")
    if not path.exists():
        raise ModelError(f"{path}: there is no such model file; make one with `python -m training.export`")
    if not path.is_file():
        raise ModelError(f"{path}: is a directory, not a model file; name the .onnx file in it")
    try:
        size = path.stat().st_size
        if not 0 < size <= _LARGEST_FILE_BYTES:
            raise ModelError(f"{path}: has {size} bytes, which is no ONNX file; export it again")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _open_session(path: Path, data: bytes, options: SessionOptions) -> tuple[Any, str]:
    """Opens the session; returns it with what ONNX Runtime said about providers that cannot be started."""
    available = onnxruntime.get_available_providers()
    usable = [name for name in options.providers if name in available]
    if "CPUExecutionProvider" not in usable:
        usable.append("CPUExecutionProvider")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    # A provider that cannot start is reported once, by this class, and not in red on stderr.
    onnxruntime.set_default_logger_severity(_FATAL)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            if "CUDAExecutionProvider" in usable and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls(msvc=False)  # CUDA and cuDNN, from where pip put them
            session = onnxruntime.InferenceSession(data, settings, providers=usable)
    except _ORT_ERRORS as error:
        raise ModelError(f"{path}: ONNX Runtime cannot load it ({_one_line(error)}); export it again") from None
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
    return session, printed.getvalue()


def _why_not(provider: str, printed: str) -> str:
    """Says in one line why the preferred provider is not the one in use."""
    if provider not in onnxruntime.get_available_providers():
        return f"{provider} is not in this build of ONNX Runtime"
    reasons = [line.strip() for line in printed.splitlines() if line.startswith(("EP Error", "Failed"))]
    return f"{provider} cannot be started ({reasons[0][:200] if reasons else 'no such device?'})"


def _read_spec(path: Path, session: Any) -> ModelSpec:  # noqa: ANN401
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path}: carries no {METADATA_KEY}; make it with `python -m training.export`")
    try:
        return ModelSpec.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _verify_graph(path: Path, session: Any, spec: ModelSpec) -> list[str]:  # noqa: ANN401
    """Checks names, types and shapes of the graph against the spec; returns the outputs to ask for."""
    inputs = session.get_inputs()
    wanted = [3, spec.input.height, spec.input.width]
    found = [(i.name, i.type, list(i.shape[1:])) for i in inputs]
    if found != [(INPUT_NAME, "tensor(float)", wanted)]:
        raise ModelError(
            f"{path}: its input is {found}, its spec says {INPUT_NAME} float (N, {wanted}); export it again"
        )
    outputs = {o.name: o for o in session.get_outputs()}
    names = ["logits", "embedding"] + (["activation"] if spec.activation is not None else [])
    absent = [name for name in names if name not in outputs or outputs[name].type != "tensor(float)"]
    if absent:
        raise ModelError(f"{path}: has no float output {absent}, only {sorted(outputs)}; export it again")
    classes = outputs["logits"].shape[-1]
    if isinstance(classes, int) and classes != len(spec.class_names):
        raise ModelError(f"{path}: has {classes} logits but {len(spec.class_names)} class names; export it again")
    return names


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _ort_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime raises its own exception classes, which share no base below Exception."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return (ValueError, *(getattr(state, name) for name in names if hasattr(state, name)))


_ORT_ERRORS = _ort_errors()
