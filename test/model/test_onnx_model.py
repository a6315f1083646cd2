"""Owns: loading, verifying and running a model file. Leaves to others: the spec's JSON (test_spec)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bad_models import BAD_MODELS, BadModel
from tiny_model import GAIN, tiny_spec, write_tiny_model

from cnn_perception.errors import FrameError, ModelError
from cnn_perception.image.messages import EncodedImage
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline

CPU = SessionOptions(["CPUExecutionProvider"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def test_one_colour_is_recognised_as_computed_by_hand(path: Path):
    blue = EncodedImage(bytes([0, 51, 255] * 20 * 10), "rgb8", 10, 20, 60, False)
    result = Pipeline.load(path, CPU).run(blue)
    weights = np.exp(GAIN * np.array([0.0, 0.2, 1.0]))
    assert result.prediction.name == "blue"
    assert result.prediction.scores == pytest.approx(weights / weights.sum(), abs=1e-5)
    assert result.prediction.embedding == pytest.approx([0.0, 0.2, 1.0], abs=1e-6)
    assert result.prediction.activation == pytest.approx(np.full((3, 4), GAIN), rel=1e-5)
    assert result.image.shape == (10, 20, 3)
    assert min(result.timings.by_stage().values()) >= 0


def test_batch_gives_what_its_images_give_alone(path: Path):
    model = OnnxModel(path, CPU)
    images = np.random.default_rng(0).random((3, 3, 24, 32), np.float32)
    together = model.run(images)
    for image, outputs in zip(images, together, strict=True):
        alone = model.run(image[np.newaxis])[0]
        np.testing.assert_allclose(outputs.logits, alone.logits, rtol=1e-6)
        np.testing.assert_allclose(outputs.activation, alone.activation, rtol=1e-6)


def test_activation_is_left_out_where_unwanted(path: Path):
    outputs = OnnxModel(path, CPU).run(np.zeros((1, 3, 24, 32), np.float32), activation=False)[0]
    assert outputs.activation is None
    assert outputs.logits.shape == (3,)


def test_digest_is_that_of_the_file(path: Path):
    import hashlib

    assert OnnxModel(path, CPU).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_preferred_provider_that_works_is_no_fallback(path: Path):
    model = OnnxModel(path, CPU)
    assert (model.provider, model.fallback) == ("CPUExecutionProvider", "")
    assert re.fullmatch(r"(CPUExecutionProvider (\d+) of \2)?", model.placement)


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="a build without CUDA")
def test_provider_that_cannot_start_is_named_and_not_printed(path: Path, capfd: pytest.CaptureFixture[str]):
    model = OnnxModel(path)
    if model.provider != "CUDAExecutionProvider":
        assert model.provider == "CPUExecutionProvider"
        assert model.fallback.startswith("CUDAExecutionProvider cannot be started")
        assert "\n" not in model.fallback
        assert capfd.readouterr() == ("", "")


def test_provider_missing_from_this_build_is_named(path: Path):
    absent = next(p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers())
    model = OnnxModel(path, SessionOptions([absent, "CPUExecutionProvider"]))
    assert model.fallback.startswith(f"{absent} is not in this build of ONNX Runtime")


@pytest.mark.parametrize("bad", BAD_MODELS, ids=lambda bad: bad.name)
def test_bad_model_is_refused_in_one_line_with_the_path_and_the_fix(
    bad: BadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    path = bad.make(tmp_path)
    monkeypatch.chdir(path.parent)  # ONNX Runtime looks for external data in the working directory
    with pytest.raises(ModelError) as refusal:
        OnnxModel(path, CPU)
    said = str(refusal.value)
    assert str(path) in said
    assert "\n" not in said
    assert [words for words in bad.words.split("; ") if words not in said] == []
    assert capfd.readouterr() == ("", "")


def test_external_data_would_be_read_by_onnx_runtime_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Why the file is looked through beforehand: a hard link in the working directory is followed."""
    bad = next(bad for bad in BAD_MODELS if bad.name == "external by hardlink")
    path = bad.make(tmp_path)
    monkeypatch.chdir(path.parent)
    assert onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).get_inputs()


def test_no_model_at_all_is_said():
    with pytest.raises(ModelError, match="no model is given"):
        OnnxModel(Path(), CPU)


def test_model_that_no_provider_can_run_at_a_batch_size_is_refused(path: Path):
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    assert OnnxModel(path, CPU).spec == tiny_spec()
    with pytest.raises(ModelError, match=r"cannot run it \(.*Got: 2 Expected: 1"):
        OnnxModel(path, SessionOptions(["cpu"], warm_up_batches=(1, 2)))


def test_batch_that_fails_loses_only_itself(path: Path):
    model = OnnxModel(path, CPU)
    with pytest.raises(FrameError, match="ONNX Runtime failed") as failure:
        model.run(np.zeros((1, 3, 24, 31), np.float32))
    assert failure.value.reason == "inference"
    assert len(model.run(np.zeros((1, 3, 24, 32), np.float32))) == 1
