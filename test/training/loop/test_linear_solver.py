"""Owns: the linear layers that a probe fits, and how their penalty is chosen. Leaves to others: a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from training.config import make
from training.data.records import Sample
from training.loop import linear_solver, probe


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives


def features(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("decay", [1e-2, 1.0])
def test_the_linear_layer_of_classes_is_that_of_logistic_regression(decay):
    labels = np.arange(60) % 3
    x = (features(60, 5) + labels[:, None] * [1, 0, -0.5, 0, 0]).astype(np.float32)
    data = linear_solver.Features(torch.from_numpy(x), torch.from_numpy(labels))

    layer = linear_solver.fit_linear(data, "multiclass", 3, decay, iterations=200)

    # scikit-learn minimises the sum of the losses times C, plus half of the squared weights
    expected = LogisticRegression(C=1 / (60 * decay), tol=1e-8, max_iter=5000).fit(x, labels)
    assert layer(data.embeddings).softmax(1).numpy() == pytest.approx(expected.predict_proba(x), abs=2e-3)


def test_the_search_does_not_end_early_where_features_are_much_alike():
    one = features(30, 1)
    mixed = one @ features(1, 80, seed=1) + 0.1 * features(30, 80, seed=2)
    x = ((mixed - mixed.mean(axis=0)) / mixed.std(axis=0)).astype(np.float32)
    labels = np.digitize(one[:, 0] + 0.5 * features(30, 1, seed=3)[:, 0], [-0.4, 0.4])
    data = linear_solver.Features(torch.from_numpy(x), torch.from_numpy(labels))

    layer = linear_solver.fit_linear(data, "multiclass", 3, 0.1, iterations=200)

    expected = LogisticRegression(C=1 / (30 * 0.1), tol=1e-8, max_iter=5000).fit(x, labels).predict_proba(x)
    assert layer(data.embeddings).softmax(1).numpy() == pytest.approx(expected, abs=0.01)


def test_the_linear_layer_of_several_labels_is_a_logistic_regression_each():
    x = features(80, 4)
    targets = np.stack([x[:, 0] > 0.3, x[:, 1] + x[:, 2] > 0], axis=1)
    data = linear_solver.Features(torch.from_numpy(x), torch.from_numpy(targets.astype(np.float32)))

    layer = linear_solver.fit_linear(data, "multilabel", 2, 0.02, iterations=200)

    for column in range(2):
        expected = LogisticRegression(C=1 / (80 * 0.02), tol=1e-8, max_iter=5000).fit(x, targets[:, column])
        found = layer(data.embeddings).sigmoid()[:, column].numpy()
        assert found == pytest.approx(expected.predict_proba(x)[:, 1], abs=2e-3)


@pytest.mark.parametrize("shape", [(50, 8), (30, 90)])  # solved by the features, and by the images
def test_the_linear_layer_of_numbers_is_ridge_regression(shape):
    x = features(*shape)
    y = (x[:, :2] * [2.0, -1.0] + [0.5, 3.0] + features(shape[0], 2, seed=1)).astype(np.float32)
    data = linear_solver.Features(torch.from_numpy(x), torch.from_numpy(y))

    layers = linear_solver.fit_ridge(data, (0.01, 0.3))

    for layer, decay in zip(layers, (0.01, 0.3), strict=True):
        # scikit-learn minimises the sum of the squares plus alpha times the squared weights
        expected = Ridge(alpha=decay * shape[0]).fit(x, y).predict(x)
        assert layer(data.embeddings).numpy() == pytest.approx(expected, abs=1e-4)


def samples(labels, **changes):
    made = [Sample(Path(f"{row}.png"), label, "train") for row, label in enumerate(labels)]
    return [replace(sample, **{k: v[row] for k, v in changes.items()}) for row, sample in enumerate(made)]


def test_cross_validation_prefers_a_penalty_where_features_are_noise():
    labels = torch.arange(60) % 2
    noise = linear_solver.Features(torch.from_numpy(features(60, 80)), labels)
    clear = linear_solver.Features(noise.embeddings + 6 * labels[:, None], labels)
    parts = linear_solver.folds(samples(labels.tolist()), make(data="d", output="o"))

    of_noise, of_clear = (linear_solver.cross_validate(data, "multiclass", 2, parts) for data in (noise, clear))

    assert min(of_noise, key=of_noise.get) == max(linear_solver.WEIGHT_DECAYS)
    assert of_clear[0.01] < of_clear[10.0]


def test_cross_validation_of_numbers_measures_the_absolute_error_on_images_held_out():
    x = features(40, 3)
    data = linear_solver.Features(torch.from_numpy(x), torch.from_numpy(x[:, :1] + 0.3 * features(40, 1, seed=2)))
    parts = np.arange(40) // 8

    found = linear_solver.cross_validate(data, "regression", 1, parts)

    errors = []
    for part in range(5):
        inside, y = parts != part, data.targets.numpy()
        model = Ridge(alpha=1.0 * inside.sum()).fit(x[inside], y[inside])
        errors += np.abs(model.predict(x[~inside]).ravel() - y[~inside].ravel()).tolist()
    assert found[1.0] == pytest.approx(np.mean(errors), rel=1e-4)


def test_answers_to_images_held_out_are_those_by_which_penalties_are_compared(monkeypatch):
    monkeypatch.setattr(linear_solver, "CROSS_VALIDATED", 40)  # of 60: a random part is looked at
    labels = torch.arange(60) % 3
    data = linear_solver.Features(torch.from_numpy(features(60, 4)) + labels[:, None], labels)
    parts = linear_solver.folds(samples(labels.tolist()), make(data="d", output="o"))
    losses = linear_solver.cross_validate(data, "multiclass", 3, parts)

    rows, outputs = linear_solver.held_out(data, "multiclass", 3, parts, 0.1)

    assert outputs.shape == (40, 3)
    assert sorted(set(rows.tolist())) == rows.tolist()
    assert functional.cross_entropy(outputs, labels[rows]).item() == pytest.approx(losses[0.1], rel=1e-5)
    assert linear_solver.best_decay(data, "multiclass", 3, parts) == min(losses, key=losses.get)


def test_each_fold_gets_its_share_of_every_class():
    labels = [0] * 50 + [1] * 10

    parts = linear_solver.folds(samples(labels), make(data="d", output="o"))

    assert np.bincount(parts[:50]).tolist() == [10] * 5
    assert np.bincount(parts[50:]).tolist() == [2] * 5


@pytest.mark.parametrize("names", [["one"] * 20, ["a"] * 10 + ["b"] * 10])
def test_groups_that_leave_no_class_to_learn_from_validate_nothing_and_times_of_them_do(names):
    recorded = samples([0] * 10 + [1] * 10, group=names)

    in_time = linear_solver.folds_in_time(recorded)

    assert not linear_solver.can_validate(recorded, linear_solver.folds(recorded, make(data="d", output="o")))
    assert linear_solver.can_validate(recorded, in_time)
    assert in_time.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] * 2


def test_a_penalty_is_chosen_on_other_times_of_one_group_and_is_the_middle_one_without_validation(tmp_path, capsys):
    run = SimpleNamespace(
        config=make(data="d", output="o"), data=SimpleNamespace(task="multiclass", class_names=("a", "b"))
    )
    labels = [0, 1] * 30
    data = linear_solver.Features(torch.from_numpy(features(60, 80)), torch.tensor(labels))

    in_time = probe._choose_decay(data, samples(labels, group=["one"] * 60), run)
    told = capsys.readouterr().out
    alone = probe._choose_decay(data.rows(np.array([0, 1])), samples([0, 1]), run)

    assert in_time == max(linear_solver.WEIGHT_DECAYS)  # features are noise
    assert told.startswith("warning: the training images are of too few groups")
    assert alone == 0.1  # of 1e-4 to 10
    assert capsys.readouterr().out.startswith("warning: too few training images")


def test_several_groups_of_every_class_validate_as_does_a_rare_class_of_one_group():
    recorded = samples([0] * 18 + [1] * 2, group=["a", "b", "c"] * 6 + ["d"] * 2)

    assert linear_solver.can_validate(recorded, linear_solver.folds(recorded, make(data="d", output="o")))
    assert not linear_solver.can_validate(recorded[:1], np.zeros(1, np.int64))


def test_cross_validation_of_little_work_takes_one_thread_and_gives_the_others_back(monkeypatch):
    seen = []

    def noted(*arguments, **_):
        seen.append(torch.get_num_threads())
        return linear_solver.Linear(torch.zeros(2, 4), torch.zeros(2))

    monkeypatch.setattr(linear_solver, "fit_linear", noted)
    data = linear_solver.Features(torch.from_numpy(features(20, 4)), torch.arange(20) % 2)
    torch.set_num_threads(3)

    linear_solver.cross_validate(data, "multiclass", 2, np.arange(20) % 5)
    after = torch.get_num_threads()
    monkeypatch.setattr(linear_solver, "THREAD_WORK", 4 * 20 * 2 // 2)
    linear_solver.fit(data, "multiclass", 2, 0.1, 10)

    assert set(seen[:-1]) == {1}
    assert after == torch.get_num_threads() == 3
    assert seen[-1] == 2


def test_neighbours_in_time_and_images_of_a_group_stay_in_one_fold():
    tail = linear_solver.folds(samples([0] * 20), make(data="d", output="o", split="tail"))
    names = [f"drive {row % 7}" for row in range(42)]
    grouped = linear_solver.folds(samples([0] * 42, group=names), make(data="d", output="o"))

    assert tail.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert all(len({grouped[row] for row in range(first, 42, 7)}) == 1 for first in range(7))
    assert set(grouped.tolist()) == set(range(5))
