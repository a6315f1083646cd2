"""Owns: that a classifier of each layout that others export answers, once adopted, as it did in torch.

Leaves to others: what is refused (test_refused), labelled images (test_measured).
"""

from __future__ import annotations

import contextlib
import io

import foreign_graphs
import numpy as np
import pytest
import torch
from foreign_graphs import LAYOUTS, OF_ONE_NUMBER, SIDE, WITH_NAMES
from paths import ROOT
from PIL import Image

from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline import Pipeline
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))


def picture(seed: int = 0) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8, so that no resize stands between both sides."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.kron(cells, np.ones((SIDE // 8, SIDE // 8, 1), np.uint8))


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """What each layout became: (foreign, path of the model file, what was printed)."""
    made = {}

    def adopt(name: str):
        if name not in made:
            foreign = LAYOUTS[name]()
            folder = tmp_path_factory.mktemp(name)
            model, names = foreign_graphs.write(foreign, folder)
            path = folder / "ours.onnx"
            words = ["--model", str(model), "--output", str(path), "--crop-fraction", "1", *foreign.options]
            if "squash" in words:
                words[4:6] = []
            if name not in WITH_NAMES:
                words += ["--classes", str(names)]
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                assert main(words) == 0
            made[name] = foreign, path, said.getvalue()
        return made[name]

    return adopt


@pytest.mark.parametrize("name", LAYOUTS)
def test_adopted_file_answers_a_picture_as_the_network_in_torch(adopted, name):
    foreign, path, _ = adopted(name)
    pixels = picture()

    prediction = Pipeline.load(path, CPU).run(EncodedFile(png(pixels), "png")).prediction

    logits = foreign.logits(pixels.transpose(2, 0, 1)[np.newaxis] / np.float32(255))
    scores = torch.from_numpy(logits)
    expected = (scores.sigmoid() if foreign.task == "multilabel" else scores.softmax(1)).numpy()[0]
    np.testing.assert_allclose(prediction.scores, expected, atol=foreign.tolerance)
    assert prediction.top == logits[0].argmax()
    assert prediction.class_names == foreign.class_names


@pytest.mark.parametrize("name", OF_ONE_NUMBER)
def test_one_number_tells_both_classes_apart(adopted, name):
    """Also where no sigmoid is found: a score from 0 to 1 that is taken for a logit is the second class of all."""
    foreign, path, _ = adopted(name)
    model = OnnxModel(path, CPU)
    colours = np.random.default_rng(2).random((32, 3, 1, 1), np.float32)
    images = np.ascontiguousarray(np.broadcast_to(colours, (32, 3, SIDE, SIDE)))

    answers = [model.run(image[np.newaxis])[0].logits.argmax() for image in images]

    assert answers == foreign.logits(images).argmax(axis=1).tolist()
    assert set(answers) == {0, 1}


@pytest.mark.parametrize("name", LAYOUTS)
def test_several_images_at_once_are_answered_as_one_by_one(adopted, name):
    _, path, _ = adopted(name)
    model = OnnxModel(path, CPU)
    images = np.random.default_rng(1).standard_normal((3, 3, SIDE, SIDE), np.float32)

    together = model.run(images)

    for image, found in zip(images, together, strict=True):
        (alone,) = model.run(image[np.newaxis])
        np.testing.assert_allclose(found.logits, alone.logits, atol=1e-2)
        np.testing.assert_allclose(found.embedding, alone.embedding, atol=1e-2)


@pytest.mark.parametrize("name", LAYOUTS)
def test_embedding_and_exact_map_are_those_of_the_network(adopted, name):
    foreign, path, _ = adopted(name)
    pixels = picture(1)
    model = OnnxModel(path, CPU)

    (found,) = model.run(prepared(model, pixels)[np.newaxis])

    features = foreign.network.body(
        foreign.prepared(torch.from_numpy(pixels.transpose(2, 0, 1)[np.newaxis] / np.float32(255)))
    )
    if foreign.exact_map:
        top = int(found.logits.argmax())
        weights = foreign.network.last.weight
        weights = torch.cat([torch.zeros_like(weights), weights]) if len(weights) == 1 else weights
        expected = torch.einsum("c,chw->hw", weights[top], features[0]).numpy()
        scale = np.abs(expected).max() + 1e-6
        np.testing.assert_allclose(found.activation / scale, expected / scale, atol=10 * foreign.tolerance)
        np.testing.assert_allclose(found.embedding, features.mean((2, 3))[0], atol=10 * foreign.tolerance)
        assert model.spec.activation.stride == (4.0, 4.0)
        assert model.spec.activation.receptive_field == (7, 7)
    else:
        assert model.spec.activation is None
        assert found.activation is None


def rows_of_the_page():
    """Of each row of docs/train/other_networks.md whose first cell is a layout: its name, embedding and map."""
    lines = (ROOT / "docs" / "train" / "other_networks.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[2:] for row in rows if len(row) == 4}


def test_the_page_lists_the_layouts_that_are_tested():
    assert list(rows_of_the_page()) == list(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_page_says_of_each_layout_what_the_adopted_file_has(adopted, name):
    embedding, activation = rows_of_the_page()[name]
    foreign, path, _ = adopted(name)
    model = OnnxModel(path, CPU)
    pixels = picture(3)
    (found,) = model.run(prepared(model, pixels)[np.newaxis])
    entering = foreign.prepared(torch.from_numpy(pixels.transpose(2, 0, 1)[np.newaxis] / np.float32(255)))
    pooled = foreign.network.body(entering).mean((2, 3))
    expected = {
        "pooled features": pooled,
        "hidden layer": foreign.network.hidden(pooled),
        "logits": torch.from_numpy(found.logits[np.newaxis]),
    }[embedding]

    np.testing.assert_allclose(found.embedding, expected[0], atol=10 * foreign.tolerance)
    assert (activation == "exact") == (model.spec.activation is not None and model.spec.activation.method == "cam")
    assert activation == "exact" or activation.startswith("none: ")


def prepared(model: OnnxModel, pixels: np.ndarray) -> np.ndarray:
    """By numpy: (pixels - mean) / std."""
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in (model.spec.input.mean, model.spec.input.std)
    )
    return (pixels.transpose(2, 0, 1).astype(np.float32) / 255 - mean) / std
