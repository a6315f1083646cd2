"""Owns: loading, verifying and running a model file. Leaves to others: the spec's JSON (test_spec)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_model import GAIN, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.image import EncodedImage
from cnn_perception.inference import OnnxModel, SessionOptions
from cnn_perception.pipeline import Pipeline
from cnn_perception.spec import METADATA_KEY

CPU = SessionOptions(["CPUExecutionProvider"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def respecified(path: Path, text: str | None) -> Path:
    """The model with another text as its spec, or with none."""
    model = onnx.load(path)
    del model.metadata_props[:]
    if text is not None:
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, path)
    return path


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
    assert model.fallback == f"{absent} is not in this build of ONNX Runtime"


@pytest.mark.parametrize(("providers", "threads"), [([], 0), (["GPU"], 0), (["CPUExecutionProvider"], -1)])
def test_nonsense_options_are_refused(providers: list[str], threads: int):
    with pytest.raises(ConfigError, match="choose"):
        SessionOptions(providers, threads)


def test_file_that_is_no_model_is_named(tmp_path: Path):
    for name, content in {"empty": b"", "text": b"hello", "zeros": bytes(1000)}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}.onnx.*export it again"):
            OnnxModel(path, CPU)
    with pytest.raises(ModelError, match="there is no such model file"):
        OnnxModel(tmp_path / "none.onnx", CPU)
    with pytest.raises(ModelError, match="is a directory"):
        OnnxModel(tmp_path, CPU)
    with pytest.raises(ModelError, match="no model is given"):
        OnnxModel(Path(), CPU)


def test_truncated_model_is_refused(path: Path):
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        OnnxModel(path, CPU)


def test_model_of_another_tool_is_refused(path: Path):
    with pytest.raises(ModelError, match=r"carries no cnn_perception\.spec"):
        OnnxModel(respecified(path, None), CPU)


def test_spec_error_names_the_file(path: Path):
    with pytest.raises(ModelError, match=r"tiny\.onnx: .*JSON"):
        OnnxModel(respecified(path, "{"), CPU)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ["red", "green"]}, "3 logits but 2 class names"),
        ({"class_names": ["red", "green", "blue", "grey"]}, "3 logits but 4 class names"),
    ],
)
def test_spec_that_contradicts_the_graph_is_refused(path: Path, change: dict[str, object], said: str):
    document = json.loads(tiny_spec().to_json()) | change
    with pytest.raises(ModelError, match=said):
        OnnxModel(respecified(path, json.dumps(document)), CPU)


def test_input_size_that_contradicts_the_graph_is_refused(path: Path):
    document = json.loads(tiny_spec().to_json())
    document["input"]["height"] = 48
    with pytest.raises(ModelError, match="its input is"):
        OnnxModel(respecified(path, json.dumps(document)), CPU)


def test_activation_grid_that_contradicts_the_graph_is_refused(path: Path):
    document = json.loads(tiny_spec().to_json())
    document["activation"]["rows"] = 7
    with pytest.raises(ModelError, match="activation map is not 7x4"):
        OnnxModel(respecified(path, json.dumps(document)), CPU)


def test_unknown_rule_for_another_embedding_is_refused(path: Path):
    text = with_unknown(tiny_spec(), -0.5, ((1.0, 0.0), (0.0, 1.0))).to_json()
    with pytest.raises(ModelError, match="unknown rule is for embeddings of 2 numbers, the graph has 3"):
        OnnxModel(respecified(path, text), CPU)


def test_graph_without_the_promised_output_is_refused(path: Path):
    model = onnx.load(path)
    kept = [output for output in model.graph.output if output.name != "embedding"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"no float output \['embedding'\]"):
        OnnxModel(path, CPU)


def test_external_data_is_not_followed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A model file is one file: what lies beside it, or anywhere else, is never read."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    assert any(
        t.data_location == TensorProto.EXTERNAL for t in onnx.load(path, load_external_data=False).graph.initializer
    )
    with pytest.raises(ModelError):
        OnnxModel(path, CPU)
    monkeypatch.chdir(tmp_path)  # not even from the working directory
    with pytest.raises(ModelError):
        OnnxModel(path, CPU)
