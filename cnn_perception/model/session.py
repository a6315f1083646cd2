"""Opens a model on the first execution provider that really runs it, and says why the preferred ones do not."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from cnn_perception import memory
from cnn_perception.errors import ConfigError, ModelError, one_line
from cnn_perception.model import tensorrt_cache
from cnn_perception.model.nvidia import has_driver, read_gpu, tensorrt_version
from cnn_perception.model.onnx_file import OnnxFile
from cnn_perception.model.providers import (
    CPU,
    CUDA,
    GPU_PROVIDERS,
    TENSORRT,
    SessionOptions,
    cache_root,
    provider_options,
    unsupported_reason,
)
from cnn_perception.model.spec import ModelSpec

_FLOATS = ("tensor(float)", "tensor(float16)")
_WARNING, _FATAL = 2, 4  # severities of ONNX Runtime's log
_TRIED = ((1, 20), (1, 31))
"""Oldest and newest minor release of ONNX Runtime whose options for GPUs are known to this package. Later ones may
bring CUDA as a plugin, whose options have other names (microsoft/onnxruntime#29544)."""
_TF32 = "NVIDIA_TF32_OVERRIDE"
"""Variable of the environment by which NVIDIA's libraries may compute fp32 in TF32; they read it once a process."""
_MEMORY_BYTES, _MEMORY_TIMES_FILE = 2**30, 4
"""Loading a model may take so much, and so many times its file (VGG-16, of 0.5 GiB, takes 1.1 GiB), ..."""
_MEMORY_A_PIXEL, _MEMORY_A_THREAD = 2**11, 2**24
"""... and so much for each pixel of its largest batch (VGG-16 takes a quarter of it) and each thread's stack."""
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""Texts by which ONNX Runtime says that there is no more."""
_LIBRARIES = {TENSORRT: "libonnxruntime_providers_tensorrt.so", CUDA: "libonnxruntime_providers_cuda.so"}


WarmUp = Callable[[Any, Sequence[int]], None]
"""Runs a session once for each of some batch sizes."""


def _ort_errors() -> tuple[type[Exception], ...]:
    """Returns ONNX Runtime's exception classes, which share no base below Exception."""
    state = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = [item for item in state if isinstance(item, type) and issubclass(item, Exception)]
    return (ValueError, RuntimeError, *own)


ORT_ERRORS = _ort_errors()
"""Everything that ONNX Runtime raises when a model or a provider fails."""
_START_ERRORS: tuple[type[Exception], ...] = (*ORT_ERRORS, MemoryError)
"""The same, and where there is no memory for it."""


@dataclass(frozen=True, eq=False)
class ProviderSession:
    """An ONNX Runtime session, and the execution provider that it runs on.

    Attributes:
        session: ONNX Runtime's session.
        provider: The execution provider that runs most of the graph.
        fallback: Why it is not the preferred one, in one line; empty when it is.
        placement: How many nodes of the graph each provider runs, such as `CUDAExecutionProvider 52 of 56,
            CPUExecutionProvider 4 of 56`; empty where ONNX Runtime is too old (1.23) to say. Half-precision nodes that
            the CPU runs in float32 are not counted.
    """

    session: Any
    provider: str
    fallback: str
    placement: str


def open_session(
    file: OnnxFile,
    spec: ModelSpec,
    options: SessionOptions,
    warm_up: WarmUp,
    log: Callable[[str], None],
) -> ProviderSession:
    """Opens a model on the first provider that runs it, within a limit of memory: a small graph can ask for any amount.

    Where a GPU may run it, the limit is kept by running it once on the CPU before, for the memory that a GPU's driver
    takes cannot be told from the graph's.

    Args:
        file: The model.
        spec: Its description.
        options: How it is to be run.
        warm_up: Runs a session once for each of some batch sizes: a GPU that ONNX Runtime has no code for starts
            without an error and then cannot compute.
        log: Is told what takes long, before it does.

    Raises:
        ModelError: If not even the CPU can run it, or it takes too much memory.
        ConfigError: If a GPU is required and none runs it.
    """
    reasons = _unusable(options.provider_order, spec)
    usable = [name for name in options.provider_order if name not in reasons]

    def start(providers: Sequence[str]) -> Any:  # noqa: ANN401
        return _start(providers, file, spec, options, warm_up, log)

    allowance = _memory_allowance(file, spec, options)
    has_gpu = bool(set(GPU_PROVIDERS) & set(usable)) and has_driver()
    with memory.limited(allowance):
        if has_gpu:
            _rehearse(file, options, warm_up, allowance)
        else:
            session, failures = _start_first(usable, start, file.path, options, allowance)
    if has_gpu:
        session, failures = _start_first(usable, start, file.path, options, allowance)
    reasons |= failures
    started: Sequence[str] = session.get_providers()
    nodes = _count_nodes(session)
    provider = max(started, key=lambda name: nodes[name])  # the earlier one where they are equal
    if provider != started[0]:
        reasons[started[0]] = f"takes only {nodes[started[0]]} of {nodes.total()} nodes of the graph"
    preferred = options.provider_order[: options.provider_order.index(provider)]
    fallback = "; ".join(f"{name} {reasons[name]}" for name in preferred if name in reasons)
    if options.require_gpu and provider not in GPU_PROVIDERS:
        raise ConfigError(f"require_gpu is set, but only {provider} runs {file.path}: {fallback}")
    placement = ", ".join(f"{name} {count} of {nodes.total()}" for name, count in nodes.most_common())
    return ProviderSession(session, provider, fallback, placement)


def shapes_of(data: bytes, like: Any, image: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Returns the shapes of the outputs of floating-point numbers, as far as ONNX Runtime can tell them beforehand.

    Args:
        data: A model whose only input is an image.
        like: A session of a model with the same input.
        image: The shape of the image.

    Raises:
        Exception: One of `ORT_ERRORS`, if ONNX Runtime cannot load the model.
    """
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is not run
    settings.log_severity_level = _FATAL
    for axis, size in zip(like.get_inputs()[0].shape, image, strict=True):
        if isinstance(axis, str):
            settings.add_free_dimension_override_by_name(axis, size)
    session = onnxruntime.InferenceSession(data, settings, providers=[CPU])
    return {
        one.name: tuple(one.shape)
        for one in session.get_outputs()
        if one.type in _FLOATS and all(isinstance(size, int) for size in one.shape)
    }


def _unusable(providers: Sequence[str], spec: ModelSpec) -> dict[str, str]:
    """Returns the providers that are not even tried, and why."""
    available = onnxruntime.get_available_providers()
    reasons = {}
    for name in providers:
        if name not in available:
            reasons[name] = f"is not in this build of ONNX Runtime{_version_note()}"
        elif reason := unsupported_reason(name, spec):
            reasons[name] = reason
    return reasons


def _memory_allowance(file: OnnxFile, spec: ModelSpec, options: SessionOptions) -> int:
    """Returns how many bytes loading a model and running it once may take."""
    pixels = max(options.warm_up_batches) * spec.input.height * spec.input.width
    threads = options.intra_op_threads or os.cpu_count() or 1
    variable = _MEMORY_TIMES_FILE * len(file.data) + _MEMORY_A_PIXEL * pixels + _MEMORY_A_THREAD * threads
    return memory.affordable(_MEMORY_BYTES + variable)


def _rehearse(file: OnnxFile, options: SessionOptions, warm_up: WarmUp, allowance: int) -> None:
    """Runs a model once on the CPU, and forgets it.

    Raises:
        ModelError: If that takes too much memory; whatever else is wrong, the provider to be used will say.
    """
    try:
        warm_up(_create(file, [(CPU, {})], options), options.warm_up_batches[:1])
    except _START_ERRORS as error:
        if _is_out_of_memory(error):
            raise _too_much_memory(file.path, allowance, error) from None


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY)


def _too_much_memory(path: Path, allowance: int, error: BaseException) -> ModelError:
    return ModelError(
        f"{path}: loading it takes more than {allowance / 2**30:.1f} GiB, as much as a model of its size may take and "
        f"this machine has to spare ({reason_of(error)}); export it again, or free memory"
    )


def _start_first(
    providers: Sequence[str],
    start: Callable[[Sequence[str]], Any],
    path: Path,
    options: SessionOptions,
    allowance: int,
) -> tuple[Any, dict[str, str]]:
    """Returns a session on the first provider that starts, and why those before it do not.

    Raises:
        ModelError: If not even the CPU, the last of them, starts.
    """
    reasons: dict[str, str] = {}
    remaining = list(providers)
    session: Any = None
    while session is None:
        try:
            session = start(remaining)
        except _START_ERRORS as error:
            failed = remaining.pop(0)
            if failed == CPU and _is_out_of_memory(error):
                raise _too_much_memory(path, allowance, error) from None
            if failed == CPU:
                raise ModelError(
                    f"{path}: ONNX Runtime {onnxruntime.__version__} cannot run it ({reason_of(error)}); "
                    "export it again or update ONNX Runtime"
                ) from None
            reasons[failed] = _failure_reason(failed, options, error)
    first = session.get_providers()[0]
    for name in remaining[: remaining.index(first)]:  # which ONNX Runtime has left out without an error
        reasons[name] = _failure_reason(name, options)
    return session, reasons


def reason_of(error: BaseException) -> str:
    """Returns what ONNX Runtime said in one line; of a long text the end, for it begins with a C++ signature."""
    return one_line(error, keep="end")


def _start(
    providers: Sequence[str],
    file: OnnxFile,
    spec: ModelSpec,
    options: SessionOptions,
    warm_up: WarmUp,
    log: Callable[[str], None],
) -> Any:  # noqa: ANN401
    """Returns a session on the first of the providers, with its engine from the cache where it is TensorRT."""

    def start(folder: Path | None) -> Any:  # noqa: ANN401
        session = _create(file, [(name, provider_options(name, spec, options, folder)) for name in providers], options)
        warm_up(session, options.warm_up_batches)
        return session

    if providers[0] != TENSORRT:
        return start(None)
    _preload(providers)
    try:
        gpu = read_gpu(options.device_id)
        versions = f"onnxruntime{onnxruntime.__version__}_tensorrt{tensorrt_version(str(_library(TENSORRT)))}_no-tf32"
        model = f"{file.sha256}_batch{max(options.warm_up_batches)}"
        folder = tensorrt_cache.folder_of(cache_root(options), gpu, versions, model)
    except LookupError as error:
        session = start(None)  # where there is no GPU this fails too, and is said once
        log(f"TensorRT built its engine, and will at each start, for it cannot be kept: {error}")
        return session
    return tensorrt_cache.start_with_engines(folder, start, ORT_ERRORS, log)


def _create(file: OnnxFile, providers: Sequence[tuple[str, dict[str, Any]]], options: SessionOptions) -> Any:  # noqa: ANN401
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    # Between two runs: the threads of the pool would keep their cores from everything of lower priority, with what it
    # holds, such as Python's global lock.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    _preload([name for name, _ in providers])
    # A provider that cannot start is reported once, by this module, and not in red on stderr.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        # ONNX Runtime's own fall-back prints, forgets the providers' settings, and happens between two frames too.
        return onnxruntime.InferenceSession(file.data, settings, providers=list(providers), enable_fallback=0)
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _preload(providers: Sequence[str]) -> None:
    """Loads CUDA, cuDNN and TensorRT from where pip put them; without a driver all of that would be for nothing."""
    if not {CUDA, TENSORRT} & set(providers) or not has_driver():
        return
    # TensorRT has no option for it: with TF32's 10 bits of mantissa the certificate of an fp32 model would not hold.
    # Models of fp16 and int8 compute as before.
    os.environ[_TF32] = "0"
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what `_failure_reason` says
            onnxruntime.preload_dlls(msvc=False)
    if TENSORRT in providers:
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt_libs")  # which loads them


def _library(provider: str) -> Path:
    return Path(onnxruntime.__file__).parent / "capi" / _LIBRARIES[provider]


def _failure_reason(provider: str, options: SessionOptions, error: Exception | None = None) -> str:
    """Returns why a provider could not be started: ONNX Runtime says it in its log only, or not at all."""
    found = reason_of(error) if error is not None else "ONNX Runtime gives no reason"
    if provider in _LIBRARIES and _library(provider).exists():
        try:
            read_gpu(options.device_id)
            with contextlib.suppress(OSError):  # it has what the next one needs, in the builds that split them
                ctypes.CDLL(str(_library(provider).with_name("libonnxruntime_providers_shared.so")), ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(_library(provider)))
        except (LookupError, OSError) as missing:
            found = reason_of(missing)
    return f"cannot be started ({found}){_version_note()}"


def _version_note() -> str:
    """Returns what to do where this ONNX Runtime is none that was tried; empty where it is."""
    release = tuple(int(part) for part in re.findall(r"\d+", onnxruntime.__version__)[:2])
    oldest, newest = (f"{major}.{minor}" for major, minor in _TRIED)
    if _TRIED[0] <= release <= _TRIED[1]:
        return ""
    return f"; with a GPU ONNX Runtime {oldest} to {newest} were tried, this is {onnxruntime.__version__}"


def _count_nodes(session: Any) -> Counter[str]:  # noqa: ANN401
    counts: Counter[str] = Counter()
    if hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
    return counts
