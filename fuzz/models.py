"""Fuzzes what a model file carries: the description, the metadata, the gallery, the graph; and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import specs
import tiny_model

from cnn_perception.errors import ModelError
from cnn_perception.model.gallery import Gallery, read_gallery
from cnn_perception.model.onnx_file import fields, read_onnx_file
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import METADATA_KEY, GallerySpec, ModelSpec
from fuzz.documents import mutated_json
from fuzz.mutation import edge, mutate_content, mutated
from fuzz.target import Files, Sample, Target, content_of


def spec_target() -> Target:
    """Returns the reader of descriptions."""
    return Target("spec", _spec_samples, _mutate_json, _check_spec, batch=500)


def gallery_target() -> Target:
    """Returns the reader of reference embeddings; an input is a line of JSON for names and size, and the text."""
    return Target("gallery", _gallery_samples, _mutate_gallery, _check_gallery, batch=1000)


def onnx_target() -> Target:
    """Returns the reader of ONNX files, without their graphs."""
    return Target("onnx", _model_samples, _mutate_onnx, _check_onnx, batch=200)


def graph_target() -> Target:
    """Returns all that happens before a model answers, ONNX Runtime included."""
    return Target("graph", _model_samples, _mutate_onnx, _check_graph, batch=20)


def checkpoint_target() -> Target:
    """Returns the reader of training's checkpoints."""
    return Target("checkpoint", _checkpoint_samples, mutate_content, _check_checkpoint, batch=50)


def all_specs() -> list[ModelSpec]:
    """Returns descriptions that use every field, one for each task."""
    return [
        specs.SPEC,
        tiny_model.tiny_spec(),
        tiny_model.as_multilabel(tiny_model.tiny_spec(), 0.5, 0.5, 0.25),
        tiny_model.regression_spec({"angle": "rad", "throttle": ""}),
    ]


def _spec_samples() -> list[Sample]:
    return [Sample(spec.task, {"spec.json": spec.to_json().encode()}) for spec in all_specs()]


def _mutate_json(random: Random, sample: Sample, _pool: Sequence[Sample]) -> Files:
    return {name: mutated_json(random, content) for name, content in sample.files.items()}


def _check_spec(sample: Sample) -> str:
    spec = ModelSpec.from_json(content_of(sample).decode(errors="surrogateescape"))
    again = ModelSpec.from_json(spec.to_json())
    if again != spec:
        raise ModelError("differs once it is written and read")
    return f"{spec.task} spec"


def _gallery_samples() -> list[Sample]:
    text = Gallery(tiny_model.NAMES, tiny_model.GALLERY).to_metadata()
    spec = json.dumps({"names": tiny_model.NAMES, "dimensions": 3})
    return [Sample("gallery", {"gallery": f"{spec}\n{text}".encode()})]


def _mutate_gallery(random: Random, sample: Sample, _pool: Sequence[Sample]) -> Files:
    spec, _, text = content_of(sample).partition(b"\n")
    if random.random() < 0.3:
        numbers = {"names": ["x"] * random.randrange(6), "dimensions": edge(random, 63)}
        return {"gallery": json.dumps(numbers).encode() + b"\n" + text}
    return {"gallery": spec + b"\n" + mutated(random, text)}


def _check_gallery(sample: Sample) -> str:
    head, _, text = content_of(sample).partition(b"\n")
    gallery = read_gallery(GallerySpec(**json.loads(head)), {"cnn_perception.gallery": text.decode(errors="replace")})
    assert gallery is not None
    gallery.nearest(gallery.embeddings[0], 2)
    return "gallery"


def _model_samples() -> list[Sample]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, shadow = tiny_model.write_models(folder)
        label = tiny_model.write_tiny_model(folder / "labels.onnx", spec=all_specs()[2])
        return [Sample(path.stem, {"model.onnx": path.read_bytes()}) for path in (model, shadow, label)]


def _mutate_onnx(random: Random, sample: Sample, pool: Sequence[Sample]) -> Files:
    data = content_of(sample)
    place = _place(random, data) if random.random() < 0.7 else None
    if place is None:
        return mutate_content(random, sample, pool)
    start, end = place
    content = data[start:end]
    if content[:1] == b"{":
        changed = mutated_json(random, content)[: len(content)].ljust(len(content))
    else:
        changed = mutated(random, content)
        if random.random() < 0.7:  # the lengths of what surrounds it stay right
            changed = changed[: len(content)].ljust(len(content), b"\0")
    return {"model.onnx": data[:start] + changed + data[end:]}


def _place(random: Random, data: bytes) -> tuple[int, int] | None:
    """Returns where a field's content lies in a protobuf message, or in a message of it."""
    start = 0
    end = len(data)
    for _ in range(random.randrange(1, 6)):
        with contextlib.suppress(ValueError):
            found = [(first, last) for _, first, last in itertools.islice(fields(data, start, end), 1000)]
            if not found:
                break
            start, end = random.choice(found)
    return None if end - start == len(data) else (start, end)


def _check_onnx(sample: Sample) -> str:
    file = read_onnx_file(_written(sample))
    spec = ModelSpec.from_json(file.metadata.get(METADATA_KEY, "null"))
    read_gallery(spec.gallery, file.metadata)
    return f"{spec.task} file"


def _check_graph(sample: Sample) -> str:
    model = OnnxModel(_written(sample))
    return f"{model.spec.task} model"


def _written(sample: Sample) -> Path:
    path = Path(tempfile.gettempdir()) / "model.onnx"
    path.write_bytes(content_of(sample))
    return path


def _checkpoint_samples() -> list[Sample]:
    import torch  # here: it takes seconds, and no other target needs it

    from training import checkpoint

    path = Path(tempfile.gettempdir()) / "best.pt"
    weights = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
    record = dataclasses.asdict(specs.SPEC.training)
    record = {name: value for name, value in record.items() if name not in ("code_version", "created")}
    checkpoint.save(
        path,
        checkpoint.Checkpoint(
            backbone="resnet18", task="multiclass", class_names=("a", "b"), units=(), scaling=(), input=specs.INPUT,
            model=weights, training=record, train_images=("a.png",), val_images=("b.png",),
            calibration=checkpoint.Calibration(1.0, (), specs.SPEC.unknown), config={"epochs": 1},
            resume={"step": 3, "optimizer": weights},
        ),
    )  # fmt: skip
    return [Sample("best", {"best.pt": path.read_bytes()})]


def _check_checkpoint(sample: Sample) -> str:
    from training import checkpoint

    path = Path(tempfile.gettempdir()) / "best.pt"
    path.write_bytes(content_of(sample))
    return f"{checkpoint.load(path).task} checkpoint"
