"""Owns: that TensorRT, CUDA and OpenVINO answer as the CPU does, on machines that have them; elsewhere it skips.

To run it: `pip install 'onnxruntime-gpu[cuda,cudnn]' 'tensorrt-cu13<11'` and a GPU, or `onnxruntime-openvino` in the
place of `onnxruntime-gpu` on any CPU.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_model import tiny_spec, write_tiny_model

from cnn_perception.errors import FrameError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.providers import SHORT_NAMES
from cnn_perception.model.spec import METADATA_KEY, Precision

IMAGES = np.random.default_rng(0).random((3, 3, 24, 32), np.float32)
TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 2e-1}  # of logits from 0 to 10


def write_model(path: Path, precision: Precision) -> Path:
    """The tiny model in a precision, made as `training.export` makes it."""
    write_tiny_model(path)
    if precision == "fp32":
        return path
    quantise = pytest.importorskip("training.graphs.quantise")
    model = onnx.load(path)
    smaller = quantise.to_fp16(model) if precision == "fp16" else quantise.to_int8(model, iter(IMAGES))
    spec = tiny_spec()
    spec = dataclasses.replace(spec, precision=dataclasses.replace(spec.precision, precision=precision))
    del smaller.metadata_props[:]
    onnx.helper.set_model_props(smaller, {METADATA_KEY: spec.to_json()})
    onnx.save(smaller, path)
    return path


def load(path: Path, name: str, said: list[str] | None = None) -> OnnxModel:
    if SHORT_NAMES[name] not in onnxruntime.get_available_providers():
        pytest.skip(f"this build of ONNX Runtime has no {name}")
    options = SessionOptions([name], warm_up_batches=(1, 2, 3), cache_dir=str(path.parent / "cache"))
    model = OnnxModel(path, options, (said if said is not None else []).append)
    if model.fallback:
        pytest.skip(model.fallback)
    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["tensorrt", "cuda", "openvino", "cpu"])
def test_model_of_every_precision_answers_as_in_fp32_on_the_cpu(tmp_path: Path, name: str, precision: Precision):
    model = load(write_model(tmp_path / "tiny.onnx", precision), name)
    expected = OnnxModel(write_tiny_model(tmp_path / "fp32.onnx"), SessionOptions(["cpu"])).run(IMAGES)
    for size in (1, 2, 3):
        for ours, theirs in zip(model.run(IMAGES[:size]), expected, strict=False):
            np.testing.assert_allclose(ours.logits, theirs.logits, atol=TOLERANCES[precision])
            np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=TOLERANCES[precision])
            np.testing.assert_allclose(ours.activation, theirs.activation, atol=TOLERANCES[precision])
    assert model.run(IMAGES, activation=False)[2].activation is None


@pytest.mark.parametrize("name", ["tensorrt", "cuda", "openvino"])
def test_answers_stay_as_they_were_when_the_next_frame_is_run(tmp_path: Path, name: str):
    model = load(write_tiny_model(tmp_path / "tiny.onnx"), name)
    first = model.run(IMAGES[:1])[0]
    kept = first.logits.copy(), first.embedding.copy()
    model.run(IMAGES[1:2])
    np.testing.assert_array_equal(first.logits, kept[0])
    np.testing.assert_array_equal(first.embedding, kept[1])


@pytest.mark.parametrize("name", ["tensorrt", "cuda", "openvino"])
def test_frame_that_fails_is_the_only_one(tmp_path: Path, name: str):
    model = load(write_tiny_model(tmp_path / "tiny.onnx"), name)
    with pytest.raises(FrameError):
        model.run(np.zeros((1, 3, 24, 31), np.float32))
    assert len(model.run(IMAGES)) == 3


def test_engine_of_tensorrt_is_built_once(tmp_path: Path):
    path = write_tiny_model(tmp_path / "tiny.onnx")
    said = []
    first = load(path, "tensorrt", said)
    assert ["builds its engine" in text for text in said] == [True]
    assert list((tmp_path / "cache").glob("*/*/*.engine"))
    second = load(path, "tensorrt", said)
    assert len(said) == 1
    np.testing.assert_array_equal(first.run(IMAGES)[0].logits, second.run(IMAGES)[0].logits)


def test_damaged_engine_of_tensorrt_is_built_again(tmp_path: Path):
    path = write_tiny_model(tmp_path / "tiny.onnx")
    said = []
    load(path, "tensorrt", said)
    for engine in (tmp_path / "cache").glob("*/*/*.engine"):
        engine.write_bytes(engine.read_bytes()[:100])
    load(path, "tensorrt", said)
    assert ["cannot be used" in text for text in said] == [False, True, False]
