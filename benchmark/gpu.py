"""The time of an exported model on a GPU, beside plain torch and torch.compile on the same one.

    python -m benchmark.gpu

All of it in one process, in turns, with the images coming from the machine's memory and the answers going back to it:
`OnnxModel` as the node runs it, torch as it is, and torch.compile; in float32 (without TF32, as the model file
promises) and in half precision. The weights are untrained: time does not depend on them.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torchvision import models  # type: ignore[import-untyped]

from benchmark.support.options import OUTPUT, option_parser
from benchmark.support.pairs import machine, summary
from benchmark.support.processes import export_model
from cnn_perception.errors import EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import METADATA_KEY, ModelSpec, Precision
from training.graphs.quantise import to_fp16

_BATCHES = (1, 8)
_WARM_UPS = 20
_OURS = "OnnxModel, as the node runs it"
_TORCH = "torch, channels last"
_COMPILED = "torch.compile, channels last"

_Run = Callable[[FloatArray], object]


def half(path: Path) -> Path:
    """Returns a model file in half precision, made of one in float32 as `training.export --fp16` makes it."""
    smaller = to_fp16(onnx.load(path))
    metadata = {prop.key: prop.value for prop in smaller.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    spec = dataclasses.replace(spec, precision=dataclasses.replace(spec.precision, precision="fp16"))
    del smaller.metadata_props[:]
    onnx.helper.set_model_props(smaller, {METADATA_KEY: spec.to_json()})
    other = path.with_name(f"{path.stem}_fp16.onnx")
    onnx.save(smaller, other)
    return other


def torch_run(network: nn.Module, precision: Precision) -> _Run:
    """Returns what runs a network on the GPU: from a batch in the machine's memory to logits there."""
    dtype = torch.float16 if precision == "fp16" else torch.float32

    def run(images: FloatArray) -> torch.Tensor:
        batch = torch.from_numpy(images).to("cuda", dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            logits: torch.Tensor = network(batch)
        return logits.float().cpu()

    return run


def contenders(path: Path, backbone: str, precision: Precision) -> dict[str, _Run]:
    """Returns all ways to run the network, by name.

    Raises:
        ConfigError: If ONNX Runtime does not run it on a GPU.
    """
    options = SessionOptions(("cuda",), warm_up_batches=_BATCHES, require_gpu=True)
    model = OnnxModel(path, options)
    network = models.get_model(backbone).eval().cuda()
    network = network.to(torch.float16 if precision == "fp16" else torch.float32, memory_format=torch.channels_last)
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return {
        _OURS: model.run,
        _TORCH: torch_run(network, precision),
        _COMPILED: torch_run(compiled, precision),
    }


def batch_ms(run: _Run, images: FloatArray, seconds: float) -> float:
    """Returns the milliseconds of a batch, the mean over this many seconds."""
    count = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        run(images)
        count += 1
    return (time.perf_counter() - started) * 1e3 / count


def measure(runs: dict[str, _Run], images: FloatArray, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Returns the milliseconds of a batch by contender, one number a round; they take turns."""
    for run in runs.values():
        for _ in range(_WARM_UPS):
            run(images)
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times_ms[name].append(batch_ms(run, images, seconds))
    return times_ms


def _report(title: str, times_ms: dict[str, list[float]], batch: int) -> None:
    print(f"\n{title}, {batch} image{'s' if batch > 1 else ''} at a time")
    ours = times_ms[_OURS]
    for name, own in times_ms.items():
        ratio = summary([ms / theirs for ms, theirs in zip(ours, own, strict=True)])
        middle = statistics.median(own)
        print(f"  {name:<48} {middle:8.3f} ms {1e3 * batch / middle:9.0f} images/s   ours / this: {ratio}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("gpu", __doc__, rounds=7, seconds=0.5, output=OUTPUT)
    parser.add_argument("--backbone", nargs="+", default=["resnet18", "resnet50"], help="torchvision names")
    options = parser.parse_args(argv)
    print(machine())
    if not torch.cuda.is_available():
        print("skipped: torch sees no GPU here")
        return EXIT_OK
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}")
    for backbone in options.backbone:
        full = export_model(options.output, backbone)
        files: dict[Precision, Path] = {"fp32": full, "fp16": half(full)}
        for precision, path in files.items():
            runs = contenders(path, backbone, precision)
            for batch in _BATCHES:
                images = np.random.default_rng(0).random((batch, 3, 224, 224), np.float32)
                _report(f"{backbone} {precision}", measure(runs, images, options.rounds, options.seconds), batch)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
