"""Owns: what is learned (classes, several labels, numbers), from command line to model file, and its scores.

Leaves to others: optimisation and interruption (test_train, test_trainer), the probe's layer (test_probe).
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paths import SHARED_DATA, write_donkeycar_csv
from PIL import Image
from sklearn import metrics as oracle
from torch.nn import functional

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export
from training.networks.build import restore
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import task_of
from training.train import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives


def meaning(task, names, units=(), scaling=()):
    return SimpleNamespace(task=task, class_names=names, units=units, scaling=scaling)


def test_the_loss_of_several_labels_is_summed_over_them_and_that_of_numbers_is_linear_beyond_one():
    logits, labels = torch.tensor([[0.5, -2.0], [1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    numbers = torch.tensor([[0.5, 3.0]])

    each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    assert task_of("multilabel").loss(logits, labels).item() == pytest.approx(each.sum().item() / 2)
    smooth = functional.binary_cross_entropy_with_logits(logits, 0.8 * labels + 0.1, reduction="none")
    smoothed = task_of("multilabel").loss(logits, labels, smoothing=0.2)
    assert smoothed.item() == pytest.approx(smooth.sum().item() / 2)
    # 0.5 x 0.5^2 = 0.125 within one deviation, 3 - 0.5 = 2.5 beyond
    assert task_of("regression").loss(numbers, torch.zeros(1, 2)).item() == pytest.approx((0.125 + 2.5) / 2)


def test_the_squared_error_is_half_the_squared_distance_to_the_labels():
    outputs, classes = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]]), torch.tensor([2, 0])
    scores = 1 / (1 + np.exp(-outputs.numpy()))
    shares = np.eye(3)[classes] * 0.7 + 0.1  # 0.3 spread over three
    each = ((scores - shares) ** 2).sum(1) / 2
    weights = torch.tensor([2.0, 1.0, 3.0])

    one = task_of("multiclass").squared_error
    assert one(outputs, classes, 0.3).item() == pytest.approx(each.mean(), rel=1e-5)
    assert one(outputs, torch.eye(3)[classes], 0.3).item() == pytest.approx(each.mean(), rel=1e-5)
    assert one(outputs, classes, 0.3, weights).item() == pytest.approx((each * [3, 2]).sum() / 5, rel=1e-5)
    flags = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    several = ((scores - (flags.numpy() * 0.7 + 0.15)) ** 2).sum(1) / 2
    assert task_of("multilabel").squared_error(outputs, flags, 0.3).item() == pytest.approx(several.mean(), rel=1e-5)
    numbers = ((outputs - flags) ** 2).numpy().sum(1) / 2
    assert task_of("regression").squared_error(outputs, flags).item() == pytest.approx(numbers.mean(), rel=1e-5)


def test_images_are_counted_by_what_they_show():
    classes = [SimpleNamespace(label=label, values=()) for label in (0, 2, 2)]
    several = [SimpleNamespace(label=0, values=values) for values in ((1.0, 0.0, 1.0), (1.0, 0.0, 0.0))]

    assert task_of("multiclass").class_counts(classes, 3) == [1, 0, 2]
    assert task_of("multilabel").class_counts(several, 3) == [2, 0, 1]
    assert task_of("regression").class_counts(several, 3) == []


def test_an_answer_is_told_with_what_is_true():
    cat, both, far = (SimpleNamespace(label=1, values=values) for values in ((), (1.0, 1.0), (1.0, -2.0)))
    of_classes = meaning("multiclass", ("dog", "cat"))
    of_numbers = meaning("regression", ("angle", "throttle"), ("rad", ""), ((0.5, 0.25), (0.0, 2.0)))
    half = np.array([0.5, 0.5])

    right = task_of("multiclass").verdict(np.array([0.25, 0.75]), cat, of_classes, np.array([]))
    wrong = task_of("multiclass").verdict(np.array([0.75, 0.25]), cat, of_classes, np.array([]))
    missed = task_of("multilabel").verdict(np.array([0.75, 0.25]), both, of_classes, half)
    numbers = task_of("regression").verdict(np.array([0.0, 0.5]), far, of_numbers, np.array([]))

    assert (right.kind, right.text, right.remark) == ("right", "cat 75.0%", "right")
    assert (wrong.kind, wrong.text, wrong.remark) == ("wrong", "dog 75.0%", "is cat")
    assert (missed.kind, missed.text, missed.remark) == ("wrong", "cat 25.0%", "is dog, cat")
    # by hand: 0.5 + 0 x 0.25 and 0 + 0.5 x 2; 0.5 + 1 x 0.25 and 0 - 2 x 2
    assert (numbers.kind, numbers.text) == ("", "angle 0.5 rad, throttle 1")
    assert numbers.remark == "is angle 0.75 rad, throttle -4"


def test_hits_add_up_to_top1_and_to_r2():
    logits, classes = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1, 1])
    truth = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])  # standardised
    found = torch.tensor([[-0.5], [1.0], [0.0], [1.5]])

    assert task_of("multiclass").hits(logits, classes) == 2
    assert task_of("multiclass").hits(logits, functional.one_hot(classes, 2).float()) == 2
    assert task_of("regression").hits(found, truth) / 4 == pytest.approx(oracle.r2_score(truth, found))
    assert np.isnan(task_of("multilabel").hits(logits, torch.ones(3, 2)))


def test_thresholds_give_the_best_f1_that_any_threshold_gives():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 4)) < [0.5, 0.1, 0.0, 1.0]).astype(np.float32)
    logits = rng.normal(size=(60, 4)) + targets

    found = task_of("multilabel").thresholds(logits, targets)

    scores = 1 / (1 + np.exp(-logits))
    for column in range(2):
        best = max(oracle.f1_score(targets[:, column], scores[:, column] >= t) for t in np.linspace(0, 1, 2001))
        ours = oracle.f1_score(targets[:, column], scores[:, column] >= found[column])
        assert ours == pytest.approx(best)
    assert found[2:] == (0.5, 0.5)


def test_a_threshold_lies_between_the_scores_it_divides():
    logits = np.log(np.array([[0.2], [0.3], [0.7], [0.9]]) / np.array([[0.8], [0.7], [0.3], [0.1]]))

    (found,) = task_of("multilabel").thresholds(logits, np.array([[0], [0], [1], [1]]))

    assert found == pytest.approx(0.5)  # halfway from 0.3 to 0.7


def test_scores_of_several_labels_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth = (rng.random((50, 3)) < 0.4).astype(np.float32)
    logits = (rng.normal(size=(50, 3)) + truth).astype(np.float32)
    cuts = (0.5, 0.3, 0.7)
    answers = ScoredLogits(logits, truth, meaning("multilabel", ("a", "b", "c")))

    report = answers.report(cuts)

    seen = 1 / (1 + np.exp(-logits)) >= cuts
    precision, recall, f1, support = oracle.precision_recall_fscore_support(truth, seen, zero_division=0)
    assert report["map"] == pytest.approx(oracle.average_precision_score(truth, logits))
    assert report["macro_f1"] == pytest.approx(f1.mean())
    for index, name in enumerate("abc"):
        row = report["per_class"][name]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (precision[index], recall[index], f1[index])
        )
        assert (row["support"], row["threshold"]) == (support[index], cuts[index])
        assert row["average_precision"] == pytest.approx(
            oracle.average_precision_score(truth[:, index], logits[:, index])
        )
    halves = oracle.f1_score(truth, logits >= 0, average="macro")
    assert answers.summary() == pytest.approx({"val_map": report["map"], "val_f1": halves, "val_loss": report["loss"]})


def test_scores_of_numbers_are_in_their_units():
    truth = np.array([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.0]], np.float32)
    found = np.array([[0.5, 1.0], [1.0, -0.5], [-1.5, 0.5]], np.float32)
    scaling = ((10.0, 2.0), (-1.0, 100.0))
    answers = ScoredLogits(found, truth, meaning("regression", ("angle", "speed"), ("deg", "m/s"), scaling))

    report = answers.report()

    # angle: errors 1, 0, 1 deg; the mean, 10, is 0, 2 and 2 off. speed: 0, 50, 50 m/s; 100, 100, 0 off
    assert report["per_number"]["angle"] == pytest.approx(
        {"mae": 2 / 3, "rmse": (2 / 3) ** 0.5, "r2": 1 - 2 / 8, "mae_of_training_mean": 4 / 3, "unit": "deg"}
    )
    assert report["per_number"]["speed"]["mae"] == pytest.approx(100 / 3)
    assert report["per_number"]["speed"]["mae_of_training_mean"] == pytest.approx(200 / 3)
    assert answers.summary()["val_mae"] == pytest.approx((2 / 3 + 100 / 3) / 2)
    assert answers.metric == pytest.approx(oracle.r2_score(truth, found))


def write_bars(root, count):
    """A bright bar, upright or lying, or both, at a place of its own on a random ground; 24 x 40 pixels."""
    rng, rows = np.random.default_rng(0), []
    for index in range(count):
        ground = np.kron(rng.integers(40, 120, (3, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        column, kinds = int(rng.integers(2, 36)), index % 3 + 1
        if kinds & 1:
            ground[:, column : column + 3] = (250, 240, 90)
        if kinds & 2:
            ground[10:13] = (90, 240, 250)
        Image.fromarray(ground).save(root / f"{index:03}.png")
        words = [word for bit, word in ((1, "upright"), (2, "lying")) if kinds & bit]
        rows.append((f"{index:03}.png", column / 10 + 5, ";".join(words)))
    for name, columns in (("numbers", (0, 1)), ("labels", (0, 2))):
        with (root / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([("path", "place", "classes")[column] for column in columns])
            table.writerows([row[column] for column in columns] for row in rows if name == "labels" or "u" in row[2])
    return root


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    return write_bars(tmp_path_factory.mktemp("bars"), 150)


def arguments(data, run, mode, *more):
    common = ["--data", str(data), "--output", str(run), "--mode", mode, "--backbone", "resnet18", "--device", "cpu"]
    common += ["--weights", "none", "--input-size", "24x40", "--resize-mode", "squash", "--workers", "0"]
    return [*common, "--split", "tail", "--seed", "1", *more]


def exported(run):
    """The validation images through the model file, and through the checkpoint's network: both (n, K)."""
    assert export.main(["--checkpoint", str(run / "best.pt"), "--output", str(run / "m.onnx")]) == EXIT_OK
    best, model = checkpoint.load(run / "best.pt"), OnnxModel(run / "m.onnx", CPU)
    images = np.stack([preprocess(decode_file_bytes(Path(p).read_bytes()), best.input) for p in best.val_images])
    with torch.inference_mode():
        network = restore(best).eval()
        return np.stack([o.logits for o in model.run(images)]), network(torch.from_numpy(images)).numpy(), best, model


def truth_of(best, file, column):
    with file.open() as opened:
        cells = {row["path"]: row[column] for row in csv.DictReader(opened)}
    return [cells[Path(path).name] for path in best.val_images]


def test_numbers_are_learned_where_the_head_keeps_places_and_the_model_file_gives_them_in_their_units(bars, tmp_path):
    more = ("--targets", "place:m", "--feature-layer", "layer1", "--grid", "1x8")

    assert main(arguments(bars / "numbers.csv", tmp_path, "probe", *more)) == EXIT_OK

    report = json.loads((tmp_path / "report.json").read_text())["val"]
    logits, standardised, best, model = exported(tmp_path)
    truth = np.array(truth_of(best, bars / "numbers.csv", "place"), np.float64)
    assert report["r2"] > 0.8
    assert report["mae"] == pytest.approx(oracle.mean_absolute_error(truth, logits[:, 0]), rel=1e-3)
    ((mean, deviation),) = best.scaling
    np.testing.assert_allclose(logits, standardised * deviation + mean, atol=1e-4)
    assert (model.spec.task, model.spec.class_names, model.spec.units) == ("regression", ("place",), ("m",))
    assert (model.spec.parity.top1_agreement, model.spec.activation.method) == (1.0, "grad-cam")
    assert model.spec.training.metrics["val_mae"] == pytest.approx(report["mae"], rel=1e-3)
    assert (tmp_path / "numbers.png").exists()
    baseline = report["per_number"]["place"]["mae_of_training_mean"]
    assert baseline == pytest.approx(np.abs(truth - mean).mean(), rel=1e-4)


def test_several_labels_are_learned_and_their_thresholds_are_in_the_model_file(bars, tmp_path):
    assert main(arguments(bars / "labels.csv", tmp_path, "probe", "--feature-layer", "layer2")) == EXIT_OK

    report = json.loads((tmp_path / "report.json").read_text())["val"]
    logits, expected, best, model = exported(tmp_path)
    truth = np.array(
        [[name in cell for name in best.class_names] for cell in truth_of(best, bars / "labels.csv", "classes")]
    )
    assert best.class_names == ("lying", "upright")
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert report["map"] > 0.9
    assert report["map"] == pytest.approx(oracle.average_precision_score(truth, logits))
    scores = 1 / (1 + np.exp(-logits.astype(np.float64) / model.spec.temperature))
    assert report["macro_f1"] == pytest.approx(oracle.f1_score(truth, scores >= model.spec.thresholds, average="macro"))
    assert model.spec.parity.top1_agreement == 1.0
    assert len(model.spec.thresholds) == 2


@pytest.mark.parametrize(("file", "more", "metric"), [("numbers", ("--targets", "place"), "r2"), ("labels", (), "map")])
def test_fine_tuning_learns_them_too(bars, tmp_path, file, more, metric):
    more = (*more, "--epochs", "2", "--grid", "1x4", "--feature-layer", "layer2", "--augment", "none")

    assert main(arguments(bars / f"{file}.csv", tmp_path, "finetune", *more)) == EXIT_OK

    with (tmp_path / "history.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert {row["metric"] for row in rows} == {metric}
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    best = checkpoint.load(tmp_path / "best.pt")
    highest = max(float(row["val_metric"]) for row in rows)
    assert best.training["metrics"][f"val_{metric}"] == pytest.approx(highest)


def test_a_network_without_a_linear_last_layer_learns_no_numbers(bars, tmp_path, capsys):
    argv = arguments(bars / "numbers.csv", tmp_path, "scratch", "--targets", "place", "--backbone", "squeezenet1_1")

    assert main(argv) == EXIT_BAD_INPUT
    assert "take --grid 1x1" in capsys.readouterr().err


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no driving frames and ImageNet weights on this machine")
def test_steering_is_read_from_the_frames_of_a_drive(tmp_path):
    weights = SHARED_DATA / "weights" / "resnet50_imagenet_keras_v1stride_fp16.safetensors"
    labels = write_donkeycar_csv(SHARED_DATA / "donkeycar_tub", tmp_path)
    argv = ["--data", str(labels), "--targets", "angle", "--split", "tail", "--backbone", "resnet50_v1"]
    argv += ["--weights", str(weights), "--mode", "probe", "--feature-layer", "layer2", "--grid", "2x2"]
    argv += ["--input-size", "120x160", "--resize-mode", "squash", "--workers", "0", "--device", "cpu"]

    assert main([*argv, "--output", str(tmp_path / "run")]) == EXIT_OK

    found = json.loads((tmp_path / "run" / "report.json").read_text())["val"]
    angles = [float(row["angle"]) for row in csv.DictReader(labels.open())]
    assert found["images"] == 200
    # the mean of the first 800 frames misses the angles of the last 200 by 0.42
    baseline = np.abs(np.array(angles[800:]) - np.mean(angles[:800])).mean()
    assert found["per_number"]["angle"]["mae_of_training_mean"] == pytest.approx(baseline, rel=1e-4)
    assert found["mae"] <= 0.15
