"""Owns: what the baselines learn and answer, with scikit-learn called by hand as the oracle.

Leaves to others: their features (test_features), the command and its table (test_baselines).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from training.baselines import fitting, methods, rows
from training.baselines.features import PIXELS
from training.config import make
from training.data.load import DataOptions, load_images
from training.data.records import Sample
from training.loop import linear_solver
from training.tasks.by_name import task_of

SIDE = 32
"""Of images that are pixels of the baselines as they are."""


def write_blots(root, count, classes=3):
    """Noise with a blot in a place of the class, so that pixels decide, not without mistakes."""
    for label in range(classes):
        (root / f"c{label}").mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng(1000 * label + number)
            image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            top = 8 * label + rng.integers(0, 4)
            image[top : top + 8, 8:24] = image[top : top + 8, 8:24] // 2 + 60
            Image.fromarray(image).save(root / f"c{label}" / f"{number:03}.png")
    return root


def config_of(source, **more):
    return make(data=str(source), output="-", mode="probe", input_size=(SIDE, SIDE), resize_mode="squash", **more)


def opened(source, **more):
    chosen = config_of(source, **more)
    return chosen, load_images(source, DataOptions.of(chosen.to_dict()))


def pixels_of(samples):
    """(n, 3072) by Pillow alone."""
    images = [np.asarray(Image.open(sample.path).convert("RGB"), np.float32) / 255 for sample in samples]
    return np.stack([image.transpose(2, 0, 1).ravel() for image in images])


@pytest.fixture(scope="module")
def blots(tmp_path_factory):
    return opened(write_blots(tmp_path_factory.mktemp("blots"), 24))


def of_pixels(task):
    return {method.parameter: method for method in methods.all_of(task) if method.features is PIXELS}


def all_with_one_small_network(data):
    """All baselines, of which the slowest has no choice."""
    every = methods.all_of(task_of(data.task))
    return [dataclasses.replace(one, candidates=(1.0,)) if one.parameter == "alpha" else one for one in every]


def by_hand(method):
    """The same estimators, made here."""
    return {
        "k": lambda value: KNeighborsClassifier(int(value)),
        "C": lambda value: make_pipeline(StandardScaler(), LogisticRegression(C=value, max_iter=100, tol=1e-3)),
    }[method.parameter]


@pytest.mark.parametrize("parameter", ["k", "C"])
def test_scikit_learn_by_hand_on_the_same_pixels_chooses_and_scores_the_same(blots, parameter):
    chosen, data = blots
    train, val = data.part("train"), data.part("val")
    method = of_pixels(task_of(data.task))[parameter]

    (row,) = rows.measured([method], val, data, chosen, most=1000)

    labels = np.array([sample.label for sample in train])
    folds = PredefinedSplit(linear_solver.folds(train, chosen))
    x = pixels_of(train)
    held_out = [cross_val_predict(by_hand(method)(v), x, labels, cv=folds) for v in method.candidates]
    value = method.candidates[int(np.argmax([(answer == labels).mean() for answer in held_out]))]
    assert row.chosen == f"{parameter} {value:g}"
    expected = by_hand(method)(value).fit(x, labels).score(pixels_of(val), [sample.label for sample in val])
    assert row.score.value == pytest.approx(expected)
    assert expected > 0.4  # there is something to be learned


def test_nothing_that_val_shows_changes_what_is_learned(blots, tmp_path):
    chosen, data = blots
    method = of_pixels(task_of(data.task))["C"]
    turned = tuple(
        dataclasses.replace(sample, label=(sample.label + 1) % 3) if sample.part == "val" else sample
        for sample in data.samples
    )
    other = dataclasses.replace(data, samples=turned)

    (one,) = fitting.fit_all([method], data, chosen, most=1000)
    (two,) = fitting.fit_all([method], other, chosen, most=1000)

    assert one.value == two.value
    assert np.array_equal(one.estimator[-1].coef_, two.estimator[-1].coef_)


def test_the_same_seed_gives_the_same_answers(blots):
    chosen, data = blots
    every = [dataclasses.replace(one, candidates=one.candidates[-1:]) for one in methods.all_of(task_of(data.task))]

    first, second = (rows.measured(every, data.part("val"), data, chosen, most=1000) for _ in range(2))

    for one, two in zip(first, second, strict=True):
        assert (one.chosen, one.name) == (two.chosen, two.name)
        assert np.array_equal(one.outputs, two.outputs)


def test_no_more_images_are_learned_from_than_are_wanted_and_each_class_gives_its_share():
    samples = [Sample(f"{number}.png", int(number >= 60), "train") for number in range(90)]

    taken = fitting.some(samples, 30, seed=1)

    assert len(set(taken)) == 30
    assert sum(sample.label for sample in taken) == 10
    assert fitting.some(samples, 90, seed=1) == tuple(samples)
    assert fitting.some(samples, 30, seed=2) != taken


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_stored_bytes_are_those_of_the_numbers_that_an_answer_needs():
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 7), np.float32), np.arange(40) % 4
    task = task_of("multiclass")

    svm = LinearSVC().fit(x, y)
    neighbours = KNeighborsClassifier(3, algorithm="brute").fit(x, y)
    network = of_pixels(task)["alpha"].make(1.0, 0)[-1].fit(x, y)

    assert methods.stored_bytes(svm) == 8 * (4 * 7 + 4) + 8 * 4  # weights, biases, classes
    assert methods.stored_bytes(neighbours) == 4 * 40 * 7 + 8 * 40 + 8 * 4  # images, their labels, classes
    assert methods.stored_bytes(network) == 4 * (7 * 64 + 64 + 64 * 4 + 4) + 8 * 4  # weights, biases, classes


def test_of_images_too_few_for_many_neighbours_fewer_are_tried():
    method = of_pixels(task_of("multiclass"))["k"]

    assert method.possible(5) == (1.0, 3.0, 5.0)
    assert method.possible(0) == (1.0,)


def test_a_fold_that_leaves_one_class_alone_is_left_out_of_the_choice():
    # groups of one class each: without the fold of the second class's only group, there is one class to learn from
    task = task_of("multiclass")
    x = np.random.default_rng(0).random((12, 3072), np.float32)
    truth = np.array([0] * 8 + [1] * 4)
    lesson = fitting.Lesson(task, 2, truth, np.arange(12), np.array([0] * 4 + [1] * 4 + [2] * 4), 0)

    fitted = fitting.fit(of_pixels(task)["C"], x, lesson, 0.0, lambda what: None)

    assert set(fitted.estimator.predict(x)) <= {0, 1}


def write_table(root, header, label_of):
    """A table of images whose red and green change by themselves, and what `label_of` says of these."""
    root.mkdir()
    lines = [",".join(["path", *header])]
    for number in range(60):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 40, (SIDE, SIDE, 3), np.uint8)
        red, green = rng.integers(0, 200, 2)
        image[..., 0] += red.astype(np.uint8)
        image[..., 1] += green.astype(np.uint8)
        Image.fromarray(image).save(root / f"{number}.png")
        lines.append(f"{number}.png,{label_of(int(red), int(green))}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root / "table.csv"


def test_numbers_are_answered_by_ridge_and_scored_as_scikit_learn_does(tmp_path):
    table = write_table(tmp_path / "data", ["red"], lambda red, green: f"{red}.5")
    chosen, data = opened(table, targets=("red:level",))

    every = all_with_one_small_network(data)

    found = rows.measured(every, data.part("val"), data, chosen, most=1000)

    by_name = {row.name: row for row in found}
    assert by_name["always the training images' mean"].score.value <= 0
    ridge = by_name["pixels + ridge"]
    train, val = data.part("train"), data.part("val")
    value = float(ridge.chosen.removeprefix("C "))
    model = make_pipeline(StandardScaler(), Ridge(1 / value))
    model.fit(pixels_of(train), [sample.values for sample in train])
    expected = r2_score([sample.values for sample in val], model.predict(pixels_of(val)))
    assert ridge.score.value == pytest.approx(expected, abs=1e-3)
    assert ridge.score.value > 0.9


def test_several_labels_are_answered_one_against_the_rest_and_scored_as_scikit_learn_does(tmp_path):
    table = write_table(
        tmp_path / "data", ["classes"], lambda red, green: ";".join(["red"] * (red > 100) + ["green"] * (green > 100))
    )
    chosen, data = opened(table)
    every = all_with_one_small_network(data)

    found = rows.measured(every, data.part("val"), data, chosen, most=1000)

    train, val = data.part("train"), data.part("val")
    truth = np.array([sample.values for sample in val])
    by_name = {row.name: row for row in found}
    linear = by_name["pixels + logistic regression"]
    value = float(linear.chosen.removeprefix("C "))
    layer = OneVsRestClassifier(LogisticRegression(C=value, max_iter=100, tol=1e-3))
    model = make_pipeline(StandardScaler(), layer).fit(pixels_of(train), [sample.values for sample in train])
    expected = average_precision_score(truth, model.decision_function(pixels_of(val)))
    assert linear.score.value == pytest.approx(expected, abs=1e-6)
    assert linear.score.value > 0.9
    assert all(row.outputs.shape == truth.shape for row in found)
    assert all(np.isfinite(row.outputs).all() for row in found)
    neighbours = by_name["pixels, nearest neighbours"]
    assert ((neighbours.outputs > 0) == (truth > 0.5)).mean() > 0.8


def test_a_class_without_training_images_is_never_answered():
    x = np.random.default_rng(0).random((20, 5), np.float32)
    estimator = LinearSVC().fit(x, np.arange(20) % 2 * 2)  # classes 0 and 2 of three

    found = methods.outputs(estimator, x, task_of("multiclass"), 3)

    assert found.shape == (20, 3)
    assert np.array_equal(found.argmax(axis=1), estimator.predict(x))
