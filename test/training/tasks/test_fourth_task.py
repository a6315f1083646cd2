"""Owns: what another task would cost: one file, and the places named here. Leaves to others: the three there are."""

from __future__ import annotations

import ast
import csv
import math
from typing import get_args

import numpy as np
import pytest
import torch
from paths import ROOT
from tiny_images import write_folder
from tiny_run import tiny_run
from torch.nn import functional

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import Task
from training import check
from training.batches.mixup import Mixing
from training.calibration import embeddings, fit
from training.checkpoint import load
from training.config import make
from training.loop import trainer
from training.scoring.scores import ScoredLogits
from training.tasks import by_name
from training.tasks.regression import Regression
from training.tasks.table import LabelledTable, TableLabels

NAMED = {
    "training/data/image_folder.py": "what a folder of class folders can say",
    "training/networks/untrained.py": "a published network is of one class an image",
    "training/train.py": "which figure a run leaves",
}
"""The places that a fourth task may have to change beside its own file and `by_name`, which lists it."""


def test_tasks_are_named_in_three_places_at_most():
    names = set(get_args(Task))
    found = set()
    for path in (ROOT / "training").rglob("*.py"):
        constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        if path.parent.name != "tasks" and names & {value for value in constants if isinstance(value, str)}:
            found.add(str(path.relative_to(ROOT)))

    assert found == NAMED.keys()
    assert len(found) <= 3


def test_every_task_of_a_model_file_can_be_learned():
    assert by_name.TASKS.keys() == set(get_args(Task))
    assert all(by_name.task_of(name).name == name for name in get_args(Task))


class Counts(Regression):
    """How many there are of each thing: a column `count`, the deviance of Poisson's distribution, no scaling."""

    name = "counts"
    metric = "within_one"
    metric_title = "counts within one"
    outputs = "counts"
    needs_linear_layer = False
    least_squares = False

    def recognises(self, table: LabelledTable) -> bool:
        return "count" in table.header

    def labels(self, table: LabelledTable) -> TableLabels:
        return TableLabels(("things",), (), lambda row: (0, (float(row.cells["count"]),)))

    def scaling(self, train):
        return ()

    def loss(self, outputs, targets, smoothing=0.0, weights=None):
        return functional.poisson_nll_loss(outputs, targets)

    def hits(self, outputs, targets):
        return float(((outputs.detach().exp() - targets).abs() <= 1).all(dim=1).sum())

    def score(self, outputs, truth):
        return float((np.abs(np.exp(outputs) - truth) <= 1).all(axis=1).mean())

    def summary(self, outputs, truth, meaning):
        return {"mae": float(np.abs(np.exp(outputs) - truth).mean())}

    def report(self, outputs, truth, meaning, thresholds):
        return self.summary(outputs, truth, meaning)


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.setitem(by_name.TASKS, "counts", Counts())


@pytest.fixture
def table(tmp_path):
    """Images of three colours, of which each stands for a count."""
    write_folder(tmp_path / "images", {"0": 12, "2": 12, "5": 12})
    with (tmp_path / "counts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "count"])
        rows.writerows([path.relative_to(tmp_path), path.parent.name] for path in sorted(tmp_path.rglob("*.png")))
    return tmp_path / "counts.csv"


@pytest.mark.usefixtures("counts")
def test_a_task_of_its_own_file_is_read_learned_kept_and_scored(table, tmp_path):
    run = tiny_run(table, tmp_path / "run", epochs=6)

    history = trainer.fit(run, None)
    fitted = fit.of_run(run, embeddings.of_run(run))

    assert run.data.task == "counts"
    assert {sample.values for sample in run.data.samples} == {(0.0,), (2.0,), (5.0,)}
    assert check.describe(run.data, None)[0].startswith(f"{table}: counts, 1 counts, ")
    assert history[-1].metric == "within_one"
    assert history[-1].train_loss < history[0].train_loss
    assert fitted.calibration == fit.UNCALIBRATED
    saved = load(tmp_path / "run" / "last.pt")
    assert saved.task == "counts"
    assert saved.training["metrics"].keys() == {"val_within_one", "val_mae", "val_loss"}
    with pytest.raises(ConfigError, match="--cutmix"):
        Mixing.of(make(data="d", output="o", cutmix=1.0), "counts")


@pytest.mark.usefixtures("counts")
def test_the_scores_of_a_task_of_its_own_file_are_its_own(table, tmp_path):
    run = tiny_run(table, tmp_path / "run")
    outputs, truth = np.log(np.float32([[1.0], [4.0], [9.0]])), np.float32([[0.0], [5.0], [5.0]])

    found = ScoredLogits(outputs, truth, run.data).report()

    expected = functional.poisson_nll_loss(torch.from_numpy(outputs), torch.from_numpy(truth)).item()
    assert found.keys() == {"images", "within_one", "loss", "mae", "intervals"}
    # of 2 of 3, by a bootstrap of three images; the smallest error is 1, the largest 4
    assert found["intervals"] == {"within_one": [0.0, 1.0], "mae": pytest.approx([1.0, 4.0])}
    assert (found["within_one"], found["mae"]) == pytest.approx((2 / 3, 2.0))
    assert math.isclose(found["loss"], expected, rel_tol=1e-5)
