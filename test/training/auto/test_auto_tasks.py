"""Owns: several classes an image, and numbers, from a table to a model file. Leaves to others: one class an image."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, r2_score

from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.auto import candidate, command
from training.report import page

SMALL = {"small CNN": "layers: conv 4 5x5 s2, relu, pool 2x2, conv 8 3x3, relu, gap, fc"}
IMAGES = 40


def lights(number: int) -> tuple[bool, bool]:
    return number % 2 == 0, number % 4 < 2


def steering(number: int) -> float:
    return (number - IMAGES / 2) / IMAGES


def picture(number: int) -> np.ndarray:
    """A red and a green light that are on or off, and blue that grows with the number."""
    pixels = np.random.default_rng(number).integers(0, 40, (32, 32, 3), np.uint8)
    red, green = lights(number)
    pixels[:16, :, 0] += np.uint8(180 * red)
    pixels[16:, :, 1] += np.uint8(180 * green)
    pixels[..., 2] = 255 * number // IMAGES
    return pixels


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of each image's classes and angle; every tenth image is of the validation part."""
    folder = tmp_path_factory.mktemp("data")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "classes", "angle"])
        for number in range(IMAGES):
            Image.fromarray(picture(number)).save(folder / f"{number:02}.png")
            names = [name for name, is_on in zip(("red", "green"), lights(number), strict=True) if is_on]
            writer.writerow([f"{number:02}.png", ";".join(names), steering(number)])
    return folder / "labels.csv"


def found(table: Path, folder: Path, *more: str) -> Path:
    usual = ["--data", str(table), "--output", str(folder), "--minutes", "30", "--folds", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.setattr(candidate, "SCRATCH", SMALL)
        patch.setattr(candidate, "usual_epochs", lambda _: 12)
        patch.setattr(page, "write", lambda *_: None)  # takes seconds, and is test_training_page's
        torch.set_num_threads(1)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        given = ["--device", "cpu", "--augment", "none", "--test-fraction", "0.2", *more]
        assert command.main([*usual, *given]) == EXIT_OK
        signal.signal(signal.SIGINT, before)
    return folder


@pytest.fixture(scope="module")
def labels(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return found(table, tmp_path_factory.mktemp("labels") / "auto", "--task", "multilabel")


@pytest.fixture(scope="module")
def numbers(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return found(table, tmp_path_factory.mktemp("numbers") / "auto", "--task", "regression", "--targets", "angle:rad")


def rows(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "auto.csv").open() as file:
        yield from csv.DictReader(file)


def answers(folder: Path) -> tuple[list[int], np.ndarray]:
    """Numbers of the images that the folds of the network have answered, and what they answered."""
    shown: list[int] = []
    outputs = []
    for path in sorted(folder.glob("trials/*/fold*/answers.npz")):
        with np.load(path) as kept:
            shown += [int(Path(name).stem) for name in kept["paths"].tolist()]
            outputs.append(kept["outputs"])
    return shown, np.concatenate(outputs)


def assert_of_network(row: dict[str, str], metric: str, score: float) -> None:
    assert row["metric"] == metric
    assert float(row["score"]) == pytest.approx(score, abs=1e-6)
    assert float(row["low"]) < score < float(row["high"])
    assert row["precision"] == "fp32"


def test_of_several_classes_an_image_the_score_is_the_mean_average_precision(labels: Path):
    shown, outputs = answers(labels)
    truth = np.array([lights(number) for number in shown])[:, ::-1]  # the classes in the order of the alphabet

    expected = average_precision_score(truth, outputs, average="macro")

    assert_of_network(next(rows(labels)), "mean average precision", expected)
    assert {row["metric"] for row in rows(labels)} == {"mean average precision"}


def test_of_numbers_the_score_is_the_variance_explained_which_has_no_unit(numbers: Path):
    shown, outputs = answers(numbers)
    truth = np.array([steering(number) for number in shown])

    expected = r2_score((truth - truth.mean()) / truth.std(), outputs[:, 0])

    assert_of_network(next(rows(numbers)), "R2", expected)
    assert {row["metric"] for row in rows(numbers)} == {"R2"}


def of_the_file(folder: Path) -> tuple[list[int], np.ndarray]:
    """Numbers of the images of the test part, and what the model file answers to them."""
    final = checkpoint.load(folder / "final" / "best.pt")
    seen = {int(Path(name).stem) for name in (*final.train_images, *final.val_images)}
    model = OnnxModel(folder / "model.onnx")
    others = [number for number in range(IMAGES) if number not in seen]
    images = np.stack([preprocess(RgbImage(picture(number)), model.spec.input) for number in others])
    return others, np.stack([output.logits for output in model.run(images)])


def test_the_file_left_of_several_classes_is_the_one_whose_figure_is_said(labels: Path):
    shown, outputs = of_the_file(labels)
    truth = np.array([lights(number) for number in shown])[:, ::-1]

    assert_said(labels, average_precision_score(truth, outputs, average="macro"), len(shown))
    assert OnnxModel(labels / "model.onnx").spec.task == "multilabel"


def test_the_file_left_of_numbers_answers_in_their_unit(numbers: Path):
    shown, outputs = of_the_file(numbers)

    assert_said(numbers, r2_score([steering(number) for number in shown], outputs[:, 0]), len(shown))
    spec = OnnxModel(numbers / "model.onnx").spec
    assert (spec.task, spec.class_names, spec.units) == ("regression", ("angle",), ("rad",))


def assert_said(folder: Path, score: float, images: int) -> None:
    final = json.loads((folder / "auto.json").read_text())["final"]
    assert (final["part"], final["images"]) == ("test", images)
    assert float(final["score"].split()[0]) == pytest.approx(score, abs=6e-4)
