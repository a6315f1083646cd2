"""Names and options of the ONNX Runtime execution providers that a model can be run on."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from cnn_perception.errors import ConfigError
from cnn_perception.files import expanded
from cnn_perception.model.spec import ModelSpec

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
CPU = "CPUExecutionProvider"

FASTEST = "fastest"
"""Among `providers`: the others are tried in no order, and the fastest is taken, see `cnn_perception.fastest`."""
SHORT_NAMES = {"tensorrt": TENSORRT, "cuda": CUDA, "openvino": OPENVINO, "cpu": CPU}
GPU_PROVIDERS = (TENSORRT, CUDA)
"""What `require_gpu` asks for. OpenVINO is run on the CPU."""
DEFAULT_PROVIDERS = (CUDA, CPU)
"""Tried in this order; the CPU is the visible fall-back. TensorRT, which builds an engine for minutes, is asked for."""

INPUT_NAME = "image"


@dataclass(frozen=True)
class SessionOptions:
    """On which execution providers and with which resources a model is run.

    Attributes:
        providers: ONNX Runtime execution providers, the preferred first, by their own names or as `tensorrt`, `cuda`,
            `openvino`, `cpu`; the CPU is always the last resort. With `fastest` among them they are tried in no order;
            `fastest` alone stands for all that are installed but TensorRT, which builds an engine for minutes.
        intra_op_threads: Threads of one inference on the CPU; 0 lets ONNX Runtime take one a physical core.
        warm_up_batches: Batch sizes that are run once at load, so that no frame pays for the first allocation; the
            largest is the largest that TensorRT will take.
        require_gpu: Whether a fall-back to the CPU is an error.
        device_id: Which GPU, as CUDA counts them, from 0.
        score_map_threads: Threads of a score map on the CPU; 0 for as many as of an inference. With 1 it runs in the
            caller's thread alone, at its priority.
        cache_dir: Where TensorRT's engines, and what was found to be the fastest, are kept; empty for the user's own
            cache folder.
    """

    providers: Sequence[str] = DEFAULT_PROVIDERS
    intra_op_threads: int = 0
    warm_up_batches: Sequence[int] = (1,)
    require_gpu: bool = False
    device_id: int = 0
    score_map_threads: int = 0
    cache_dir: str = ""

    def __post_init__(self) -> None:
        known = onnxruntime.get_all_providers()
        choice = f"choose from {', '.join([FASTEST, *SHORT_NAMES, *known])}"
        if not self.providers or not all(self.providers):
            raise ConfigError(f"providers is empty; {choice}")
        unknown = [name for name in self.provider_order if name not in known]
        if unknown:
            raise ConfigError(f"providers: ONNX Runtime has no {unknown}; {choice}")
        for name, threads in (
            ("intra_op_threads", self.intra_op_threads),
            ("score_map_threads", self.score_map_threads),
        ):
            if not 0 <= threads <= 1024:
                raise ConfigError(f"{name} is {threads}; choose 0 (automatic) to 1024")
        if not self.warm_up_batches or min(self.warm_up_batches) < 1:
            raise ConfigError(f"warm_up_batches is {list(self.warm_up_batches)}; choose sizes from 1 on")
        if not 0 <= self.device_id <= 255:
            raise ConfigError(f"device_id is {self.device_id}; choose 0 to 255")
        if self.require_gpu and not set(self.provider_order) & set(GPU_PROVIDERS):
            raise ConfigError(f"require_gpu is set, but providers has no GPU, only {list(self.providers)}; add cuda")

    @property
    def provider_order(self) -> tuple[str, ...]:
        """The providers by their full names, each once, with the CPU as the last resort."""
        names = [SHORT_NAMES.get(name, name) for name in self.providers if name != FASTEST]
        if not names:
            installed = onnxruntime.get_available_providers()
            names = [name for name in (CUDA, OPENVINO) if name in installed]
        return tuple(dict.fromkeys([*names, CPU]))

    @property
    def picks_fastest(self) -> bool:
        """Whether the fastest of the providers, and of the files of one network, is to be found and taken."""
        return FASTEST in self.providers

    @property
    def as_named(self) -> SessionOptions:
        """The same, but that the file which is named is run, on the first of the providers that runs it."""
        return dataclasses.replace(self, providers=self.provider_order)

    @property
    def is_default_choice(self) -> bool:
        """Whether nobody has asked for anything but the defaults: then a robot without a GPU lacks nothing."""
        return self.provider_order == DEFAULT_PROVIDERS

    @property
    def builds_engine(self) -> bool:
        """Whether the first load of a model takes minutes."""
        return TENSORRT in self.provider_order


def cache_root(options: SessionOptions) -> Path:
    """Returns the folder in which TensorRT's engines, and what was found to be the fastest, are kept.

    Source: XDG Base Directory Specification 0.8, XDG_CACHE_HOME: a relative path there is invalid and ignored.

    Raises:
        ConfigError: If `cache_dir` names a user who does not exist.
        LookupError: If there is no home folder.
    """
    if options.cache_dir:
        return expanded(options.cache_dir)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (folder if folder.is_absolute() else Path.home() / ".cache") / "cnn_perception"
    except RuntimeError as error:  # pathlib's way of saying that there is no home
        raise LookupError(str(error)) from None


def unsupported_reason(name: str, spec: ModelSpec) -> str:
    """Returns why a provider is not even tried with a model; empty where it is.

    Source: TensorRT's developer guide, "Working with Quantized Types": integers are signed, their zero point is 0.
    """
    if name == TENSORRT and spec.precision.precision == "int8":
        return "cannot compute unsigned 8-bit activations, only fp32 and fp16 models"
    return ""


def provider_options(
    name: str, spec: ModelSpec, options: SessionOptions, engines: Path | None = None
) -> dict[str, Any]:
    """Returns ONNX Runtime's options of a provider.

    Args:
        name: The provider's full name.
        spec: The model that it will run.
        options: How it is to be run.
        engines: Folder of TensorRT's engines; None for no cache.

    Source: the pages of ONNX Runtime's documentation on the TensorRT, CUDA and OpenVINO execution providers.
    """
    if name == CUDA:
        return _cuda(spec, options)
    if name == TENSORRT:
        return _tensorrt(spec, options, engines)
    if name == OPENVINO:
        return _openvino(options)
    return {}


def _cuda(spec: ModelSpec, options: SessionOptions) -> dict[str, Any]:
    return {
        "device_id": options.device_id,
        # A robot's GPU is shared: the arena grows by what is needed, and does not double.
        "arena_extend_strategy": "kSameAsRequested",
        # The default searches longer at each new batch or image size, which then is a frame that comes late.
        "cudnn_conv_algo_search": "HEURISTIC",
        # TF32 has 10 bits of mantissa: the certificate of an fp32 export would not hold. Without it ONNX Runtime
        # keeps off the tensor cores altogether, which an fp16 model needs and loses nothing by.
        "use_tf32": spec.precision.precision != "fp32",
    }


def _tensorrt(spec: ModelSpec, options: SessionOptions, engines: Path | None) -> dict[str, Any]:
    largest = max(options.warm_up_batches)
    size = f"3x{spec.input.height}x{spec.input.width}"
    settings = {
        "device_id": options.device_id,
        # It would round an fp32 model too, and nobody would have measured that. An fp16 model needs it.
        "trt_fp16_enable": spec.precision.precision == "fp16",
        # One engine for every batch: a size outside of this range would build another one between two frames.
        "trt_profile_min_shapes": f"{INPUT_NAME}:1x{size}",
        "trt_profile_opt_shapes": f"{INPUT_NAME}:{largest}x{size}",
        "trt_profile_max_shapes": f"{INPUT_NAME}:{largest}x{size}",
    }
    if engines is None:
        return settings
    return settings | {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(engines),
    }


def _openvino(options: SessionOptions) -> dict[str, Any]:
    # Without the hint OpenVINO computes in bfloat16 where the CPU can; its default is 8 threads.
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    if options.intra_op_threads:
        properties["INFERENCE_NUM_THREADS"] = str(options.intra_op_threads)
    # No cache: compiling for the CPU takes less than a second.
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}
