"""Owns: running all folds and summing them up. Leaves to others: which images form a fold (test_split)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnn_perception.errors import ConfigError
from training.config import make, parse
from training.loop.cross_validation import cross_validate

TOP1 = {1: 0.5, 2: 0.75, 3: 1.0}


def trainer(calls):
    def train(given):
        calls.append(given)
        folder = Path(given["output"])
        folder.mkdir(parents=True)
        report = {"val": {"top1": TOP1[given["fold"]], "images": 4, "confusion": [[1]]}}
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "last.pt").touch()
        return report

    return train


def test_each_fold_is_trained_in_its_own_folder_and_mean_and_deviation_are_kept(tmp_path, capsys):
    calls = []

    summary = cross_validate({"data": "d", "output": str(tmp_path), "folds": 3, "lr": 1.0}, trainer(calls))

    expected = [(str(tmp_path / f"fold{i}"), i, 3, 1.0) for i in (1, 2, 3)]
    assert [(c["output"], c["fold"], c["folds"], c["lr"]) for c in calls] == expected
    assert json.loads((tmp_path / "folds.json").read_text()) == summary
    assert summary["val"].keys() == {"top1", "images"}
    top1 = summary["val"]["top1"]
    assert top1["values"] == list(TOP1.values())
    assert (top1["mean"], top1["std"]) == pytest.approx((0.75, np.std(list(TOP1.values()), ddof=1)))
    assert "0.7500  0.2500" in capsys.readouterr().out


def test_folds_that_are_done_are_not_trained_again(tmp_path):
    given, calls = {"data": "d", "output": str(tmp_path), "folds": 3}, []
    first = cross_validate(given, trainer(calls))
    (tmp_path / "fold3" / "report.json").unlink()
    (tmp_path / "fold3" / "last.pt").unlink()
    (tmp_path / "fold3").rmdir()

    with pytest.raises(ConfigError, match="holds folds already"):
        cross_validate(given, trainer(calls))
    assert cross_validate({**given, "resume": True}, trainer(calls)) == first
    assert [call["fold"] for call in calls] == [1, 2, 3, 3]


def test_a_fold_that_does_not_exist_is_refused():
    places = {"data": "d", "output": "o"}

    assert make(**places, **parse(["--folds", "5", "--fold", "5"])).fold == 5
    for given in ({"folds": 5, "fold": 6}, {"fold": 1}):
        with pytest.raises(ConfigError, match=r"--fold: . is none of --folds"):
            make(**places, **given)
