"""Owns: that model files, checkpoints and runs made by an earlier version still load and answer as they did then.

The files in support/made_at_7e3d333 are of that commit: multilayer perceptrons trained on drawn images.
predictions.json is what its pipeline answered to three other drawn images.
"""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from paths import ROOT
from tiny_images import COLORS, picture, write_folder

from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.pipeline import Pipeline
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export
from training.networks import build
from training.train import main

STORED = ROOT / "test" / "support" / "made_at_7e3d333"
MODELS = ("multiclass", "multiclass_int8", "multilabel", "regression")
CHECKPOINTS = {"multiclass": "multiclass/best.pt", "multilabel": "multilabel.pt", "regression": "regression.pt"}


@pytest.mark.parametrize("name", MODELS)
def test_a_stored_model_file_answers_as_it_did(name):
    pipeline = Pipeline.load(STORED / f"{name}.onnx")

    for number, then in enumerate(json.loads((STORED / "predictions.json").read_text())[name]):
        now = pipeline.recognise(RgbImage(picture(COLORS[number], 100 + number)))
        assert now.unknown == then["unknown"]
        np.testing.assert_allclose(now.scores, then["scores"], atol=1e-5)
        np.testing.assert_allclose(now.values, then["values"], atol=1e-5)
        assert [name for name, _ in now.ranked(3)] == [name for name, _ in then["ranked"]]


@pytest.mark.parametrize("task", CHECKPOINTS)
def test_a_stored_checkpoint_is_the_network_of_its_model_file(task):
    saved = checkpoint.load(STORED / CHECKPOINTS[task])
    network = build.restore(saved).eval()
    pipeline = Pipeline.load(STORED / f"{task}.onnx")
    image = RgbImage(picture(COLORS[0], 100))
    tensor = preprocess(image, saved.input)[np.newaxis]

    with torch.inference_mode():
        logits = network(torch.from_numpy(tensor)).numpy()

    (found,) = pipeline.model.run(tensor, activation=False)
    scaling = np.array(saved.scaling or [(0.0, 1.0)]).T
    np.testing.assert_allclose(found.logits, logits[0] * scaling[1] + scaling[0], atol=1e-4)


def test_a_stored_run_is_continued_and_exported(tmp_path, capsys):
    photos = write_folder(tmp_path / "photos", {"go": 12, "stop": 15, "turn": 13})
    run = shutil.copytree(STORED / "multiclass", tmp_path / "run")
    with (run / "history.csv").open() as file:
        before = list(csv.DictReader(file))

    assert main(["--output", str(run), "--resume", "--data", str(photos), "--epochs", "5"]) == EXIT_OK
    assert export.main(["--checkpoint", str(run / "best.pt"), "--output", str(tmp_path / "m.onnx")]) == EXIT_OK

    with (run / "history.csv").open() as file:
        after = list(csv.DictReader(file))
    assert [row["train_loss"] for row in after[:3]] == [row["train_loss"] for row in before]
    assert [row["epoch"] for row in after] == ["1", "2", "3", "4", "5"]
    image = next((photos / "val" if (photos / "val").is_dir() else photos).rglob("*.png"))
    assert Pipeline.load(tmp_path / "m.onnx").recognise(decode_file_bytes(image.read_bytes())).class_names == (
        "go",
        "stop",
        "turn",
    )
