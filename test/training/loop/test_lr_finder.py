"""Owns: the search for a learning rate. Leaves to others: training (test_train, test_trainer)."""

from __future__ import annotations

import csv
import itertools
import math

import numpy as np
import pytest
import torch
from tiny_run import command_line, tiny_run

from cnn_perception.errors import EXIT_OK, DataError
from training.loop import lr_finder
from training.loop.lr_finder import Sweep
from training.train import main, write_sweep


def test_the_steepest_descent_of_a_known_curve_is_found():
    # 1 - sigmoid falls fastest where its argument is 0, at a rate of 1e-3; then the loss rises
    rates = np.logspace(-7, 1, 81)
    losses = 1 / (1 + np.exp(3 * (np.log10(rates) + 3))) + np.where(rates > 0.1, rates, 0)

    assert Sweep(tuple(rates), tuple(losses)).suggestion() == pytest.approx(1e-3, rel=0.3)


def test_a_loss_that_only_rises_gives_no_suggestion():
    with pytest.raises(DataError, match="falls at no rate"):
        Sweep(tuple(np.logspace(-7, 1, 50)), tuple(np.linspace(1, 2, 50))).suggestion()


def test_the_sweep_rises_exponentially_and_stops_when_the_loss_has_grown(photos, tmp_path):
    run = tiny_run(photos, tmp_path, optimizer="sgd", momentum=0.0)

    found = lr_finder.sweep(run)

    ratios = [after / before for before, after in itertools.pairwise(found.rates)]
    assert found.rates[0] == pytest.approx(1e-7)
    assert ratios == pytest.approx([10 ** (8 / 99)] * len(ratios))
    assert all(map(math.isfinite, found.losses))
    assert len(found.rates) < 100


def test_the_finder_writes_its_curve_and_leaves_weights_and_checkpoints_alone(photos, tmp_path, capsys):
    run = tiny_run(photos, tmp_path)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}

    found = lr_finder.find(run)
    write_sweep(tmp_path, found)

    with (tmp_path / "lr_finder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert found.suggestion() in [float(row["lr"]) for row in rows]
    assert (tmp_path / "lr_finder.png").read_bytes().startswith(b"\x89PNG")
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    assert list(tmp_path.glob("*.pt")) == []


def test_find_lr_prints_a_rate_with_which_the_same_folder_can_be_trained(photos, tmp_path, capsys):
    assert main([*command_line(photos, tmp_path), "--find-lr"]) == EXIT_OK
    line = capsys.readouterr().out.splitlines()[-1]

    assert line.startswith("suggested: --lr ")
    rate = line.split()[2].rstrip(";")
    assert 1e-7 < float(rate) < 10
    run = tiny_run(photos, tmp_path, lr=float(rate))
    assert not run.config.find_lr
    assert '"find_lr": false' in (tmp_path / "config.json").read_text()
