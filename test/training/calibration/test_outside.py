"""Owns: how the unknown rule is measured on images of none of the classes, and by which of them it is chosen.

Leaves to others: the scores and the threshold (test_fit), AUROC itself (test_metrics), a whole run (test_tables).
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from training import train
from training.calibration import cross_fit, unknown_rule
from training.calibration import fit as calibrate
from training.calibration.embeddings import Predictions
from training.calibration.outside import Measurement, auroc_interval
from training.data.records import Sample


def seen(logits, vectors, labels=None, groups=None):
    count = len(logits)
    labels = labels if labels is not None else [0] * count
    groups = groups or [""] * count
    samples = tuple(Sample(Path(f"{i}.png"), int(labels[i]), "val", (), groups[i]) for i in range(count))
    return Predictions(samples, np.asarray(logits, np.float32), np.asarray(vectors, np.float32))


def drawn(known=200, others=60, *, near=0.0, seed=0):
    """Known images of two classes and others; `near` is how far the others lie towards the classes, 0 to 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(known) % 2
    middles = np.eye(8)[:2] * 6
    vectors = middles[labels] + rng.normal(0, 1, (known, 8))
    away = rng.normal(0, 2, (others, 8)) + near * middles[rng.integers(0, 2, others)]
    logits = [rng.normal(0, 1, (known, 2)) + 0.4, rng.normal(0, 1, (others, 2))]
    return seen(logits[0], vectors, labels), seen(logits[1], away)


def fitted(known, outside, **options):
    return calibrate.fit(known, {"val": known}, outside, "multiclass", false_alarm_rate=0.1, **options)


@pytest.mark.parametrize("method", ["energy", "distance"])
def test_the_figures_are_those_of_scikit_learn_and_of_counting(method):
    known, others = drawn(near=0.5)

    found = fitted(known, others, unknown=method)

    scores = [unknown_rule.score(part, method, unknown_rule.centres(known)) for part in (known, others)]
    is_known = [1] * len(known) + [0] * len(others)
    assert found.outside.auroc.value == pytest.approx(roc_auc_score(is_known, np.concatenate(scores)))
    below = (scores[1] < found.calibration.unknown.threshold).mean()
    assert found.outside.called_unknown.value == below == found.called_unknown()["outside"]
    assert found.outside.auroc.low < found.outside.auroc.value < found.outside.auroc.high
    assert found.outside.measured_by == "they fitted nothing"


def test_images_that_are_less_like_the_classes_raise_the_auroc():
    areas = [fitted(*drawn(near=near)).outside.auroc.value for near in (0.9, 0.5, 0.0)]

    assert areas[0] < areas[1] < areas[2]


def test_images_of_the_training_part_choose_and_are_not_measured():
    known, others = drawn()
    # to the energy the choosing ones are clearly others, to the distance they are all like the classes
    choosing = seen(np.full((30, 2), -9.0), np.eye(8)[[0, 1] * 15])

    alone, chosen = fitted(known, others), fitted(known, others, choosing=choosing)

    assert (alone.calibration.unknown.method, chosen.calibration.unknown.method) == ("distance", "energy")
    assert chosen.outside.images == chosen.calibration.unknown.outside_images == 60
    assert chosen.outside.auroc.value == chosen.auroc["energy"] == chosen.calibration.unknown.auroc
    assert "30 others, of the training part, chose the method" in chosen.outside.measured_by


def test_images_of_the_training_part_alone_choose_and_measure_nothing():
    known, _ = drawn()
    found = fitted(known, None, choosing=seen(np.full((30, 2), -9.0), np.eye(8)[[0, 1] * 15]))

    assert found.calibration.unknown.method == "energy"
    assert (found.outside, found.auroc, found.calibration.unknown.auroc) == (None, {}, None)
    assert found.called_unknown().keys() == {"val"}


def measurement(choose, known=40, others=30):
    rng = np.random.default_rng(3)
    of = [{m: rng.normal(mean, 1, n) for m in ("energy", "distance")} for n, mean in ((known, 1), (others, 0))]
    folds = [np.arange(n) % 3 for n in (known, others)]
    return Measurement(*of, choose, 0.1, *folds)


def test_each_fold_is_measured_by_what_the_others_choose():
    """The methods are chosen by whether the first known image and the first other one are among the rows."""
    calls = []

    def choose(known, others):
        calls.append((set(known.tolist()), set(others.tolist())))
        return "energy" if (0 in known) == (0 in others) else "distance"

    found = measurement(choose)

    pairs = []
    for k, o in itertools.product(range(40), range(30)):
        method = "energy" if (k % 3 == 0) == (o % 3 == 0) else "distance"  # its fold is left out where it chooses
        pairs.append(found.known[method][k] > found.outside[method][o])
    assert found.auroc() == pytest.approx(np.mean(pairs))
    assert len(calls) == 9
    unknown = found.outside_unknown()
    for o in range(30):
        method = "distance" if o % 3 == 0 else "energy"
        threshold = np.sort(found.known[method])[3:5].mean()  # of 40, 4 are below
        assert unknown[o] == (found.outside[method][o] < threshold)
    assert found.is_unknown().shape == (40,)


def test_where_all_choose_alike_the_area_of_the_folds_is_the_area_itself():
    found = measurement(lambda known, others: "energy")

    everything = np.concatenate([found.known["energy"], found.outside["energy"]])
    assert found.auroc() == pytest.approx(roc_auc_score([1] * 40 + [0] * 30, everything))


def test_images_of_one_recording_are_in_one_fold():
    known, _ = drawn()
    others = seen(np.zeros((40, 2)), np.eye(8)[:1].repeat(40, 0), groups=[f"drive{i // 10}" for i in range(40)])

    folds = cross_fit.folds(others.labels, [sample.group for sample in others.samples])

    assert all(len(set(folds[i : i + 10])) == 1 for i in range(0, 40, 10))
    assert fitted(known, others).outside.measured_by == "each fold of them by the method that the others choose"


def test_too_few_images_choose_and_are_measured_and_it_is_said():
    known, others = drawn(others=8)

    assert "too few for folds" in fitted(known, others).outside.measured_by


@pytest.mark.parametrize(("known", "others", "shift"), [(40, 12, 1.0), (100, 30, 2.0), (30, 30, 0.0)])
def test_the_interval_of_the_area_holds_the_true_one_in_95_of_100_draws(known, others, shift):
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    true = norm.cdf(shift / np.sqrt(2))
    inside = 0
    for _ in range(400):
        scores = rng.normal(shift, 1, known), rng.normal(0, 1, others)
        area = (scores[0][:, None] > scores[1]).mean()
        found = auroc_interval(area, known, others)
        inside += found.low <= true <= found.high
    assert 0.93 <= inside / 400 <= 0.985


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_area_of_0_or_1_of_few_images_is_not_certain(value):
    found = auroc_interval(value, 30, 5)

    assert found.low <= value <= found.high
    assert found.high - found.low > 0.1


def test_labelled_images_are_no_images_of_none_of_the_classes(tmp_path, capsys):
    data = write_folder(tmp_path / "signs", {"go": 8, "stop": 8})
    others = write_folder(tmp_path / "others", {"sky": 6}, first_seed=500)
    for number in range(3):  # the same pixels in another format, under another name
        Image.open(data / "go" / f"{number:02}.png").save(others / "sky" / f"copy{number}.bmp")
    words = ["--data", data, "--backbone", "lenet5", "--mode", "scratch", "--epochs", 1, "--batch-size", 8]
    words += ["--workers", 0, "--input-size", 32, "--baselines", "none", "--device", "cpu", "--unknown", "energy"]

    def run(name, *more):
        return train.main([str(word) for word in (*words, "--outside", others, "--output", tmp_path / name, *more)])

    assert run("refused") == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "3 of its 9 images are labelled ones, first" in said
    assert "'go'; remove them" in said
    assert not (tmp_path / "refused" / "config.json").exists()
    assert run("dropped", "--on-conflict", "drop") == EXIT_OK
    assert "--outside: 3 of 9 images are left out: they are labelled ones" in capsys.readouterr().out
    report = json.loads((tmp_path / "dropped" / "report.json").read_text())
    assert report["calibration"]["unknown"]["outside_images"] == 6
