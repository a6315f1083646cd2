"""Owns: which candidate is taken, and why others end, of answers made for it. Leaves to others: real networks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, DataError
from training.auto import candidate, command, deployment, finish, reference, trial
from training.auto.budget import TimeUp
from training.auto.costs import Plan
from training.auto.search import Search
from training.auto.trial import Fold, Trial

GOOD, BAD, FAST, BROKEN = (f"layers: conv {width} 3x3, relu, gap, fc" for width in (4, 5, 6, 7))
RIGHT = {GOOD: 0.9, BAD: 0.2, FAST: 0.8}
"""Share of each fold that a network answers rightly."""
MILLISECONDS = {GOOD: 9.0, BAD: 5.0, FAST: 2.0, BROKEN: 1.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 50, "stop": 50})


class Answers:
    """Stands for training: each fold answers as many images rightly as `RIGHT` says."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.graphs = {}
        self.ends = {}
        monkeypatch.setattr(Trial, "run", lambda *given: self.run(*given))
        monkeypatch.setattr(trial, "speed", lambda chosen, data: (1e-6, 1e-6))
        monkeypatch.setattr(deployment, "model_file", self.model_file)
        monkeypatch.setattr(deployment, "latencies_ms", lambda paths: {n: MILLISECONDS[self.graphs[n]] for n in paths})
        monkeypatch.setattr(reference, "measured", lambda *_: [])
        monkeypatch.setattr(finish, "trained", self.stop)

    def run(self, this, number, _epochs, _settled):
        backbone = this.candidate.backbone
        self.asked.append((backbone, number))
        if error := self.ends.get((backbone, number)):
            raise error
        samples = this.folds[number - 1].part("val")
        right = np.arange(len(samples)) < RIGHT[backbone] * len(samples)
        labels = np.array([sample.label for sample in samples])
        said = np.where(right, labels, 1 - labels)
        return Fold(samples, np.eye(2, dtype=np.float32)[said], 0.5)

    def model_file(self, one, _given, _data, _precision, path):
        if one.backbone == BROKEN:
            raise DataError("no such network here")
        self.graphs[path.stem] = one.backbone
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)

    def stop(self, *_):
        raise KeyboardInterrupt


@pytest.fixture
def answers(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return Answers(monkeypatch)


def choose(photos, folder, *backbones, more=(), code=EXIT_INTERRUPTED):
    words = ["--data", str(photos), "--output", str(folder), "--minutes", "60", "--folds", "4", "--augment", "none"]
    assert command.main([*words, "--backbones", *backbones, *more]) == code
    record = json.loads((folder / "auto.json").read_text())
    return record, {row["name"].removesuffix(", light"): row for row in record["rows"]}


def test_the_best_is_taken_whatever_the_order(answers, photos, tmp_path):
    for number, order in enumerate([(GOOD, FAST), (FAST, GOOD)]):
        record, rows = choose(photos, tmp_path / str(number), *order)

        assert record["chosen"]["settings"]["backbone"] == GOOD
        assert rows[GOOD]["score"]["value"] == pytest.approx(0.9, abs=0.03)
        assert rows[GOOD]["folds"] == "4 of 4"


def test_what_is_shown_to_be_worse_is_tried_no_more(answers, photos, tmp_path):
    _, rows = choose(photos, tmp_path / "run", GOOD, BAD)

    assert rows[BAD]["ended"] == f"worse than {GOOD}, light, shown after 2 folds"
    assert [number for backbone, number in answers.asked if backbone == BAD] == [1, 2]


def test_the_best_within_the_latency_is_taken(answers, photos, tmp_path):
    record, rows = choose(photos, tmp_path / "run", GOOD, FAST, more=("--max-latency-ms", "5"))

    assert record["chosen"]["settings"]["backbone"] == FAST
    assert rows[GOOD]["ended"] == "slower than 5 ms"
    assert GOOD not in {backbone for backbone, _ in answers.asked}


def test_the_nearest_is_named_where_all_are_too_slow(answers, photos, tmp_path, capsys):
    choose(photos, tmp_path / "run", GOOD, FAST, more=("--max-latency-ms", "1.9"), code=EXIT_BELOW_TARGET)

    assert f"the nearest is {FAST}, light with 2 ms" in capsys.readouterr().err


def test_a_network_that_cannot_be_had_is_a_line_of_the_table(answers, photos, tmp_path):
    record, rows = choose(photos, tmp_path / "run", BROKEN, FAST)

    assert record["chosen"]["settings"]["backbone"] == FAST
    assert rows[BROKEN]["ended"] == "no such network here"
    assert rows[BROKEN]["score"] is None


@pytest.mark.parametrize("minutes", ["1e-9", "0.01"])
def test_the_least_time_is_said_where_there_is_not_even_that_for_the_first_measurement(
    minutes, answers, photos, tmp_path, capsys
):
    choose(photos, tmp_path / "run", GOOD, more=("--minutes", minutes), code=EXIT_BAD_INPUT)

    assert (
        f"--minutes {minutes.replace('e-9', 'e-09')}: too short; the least for this data set" in capsys.readouterr().err
    )
    assert answers.asked == []


def test_nothing_but_broken_networks_is_refused(answers, photos, tmp_path, capsys):
    choose(photos, tmp_path / "run", BROKEN, code=EXIT_BAD_INPUT)

    assert "no network can be tried" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TimeUp(), DataError("the images are gone")], ids=["time", "error"])
def test_folds_that_are_done_count_where_a_later_one_ends(error, answers, photos, tmp_path):
    answers.ends[GOOD, 3] = error
    record, rows = choose(photos, tmp_path / "run", FAST, GOOD)

    assert rows[GOOD]["folds"] == "2 of 4"
    assert rows[GOOD]["ended"] in ("time was up in fold 3", "the images are gone")
    assert record["chosen"]["settings"]["backbone"] == GOOD  # 90 % of the images, of which the other has 80 %


def test_folds_that_are_done_stay_in_the_table_where_there_is_no_time_for_more(answers, photos, tmp_path, monkeypatch):
    """Its other folds are tried once nothing else waits, and then time is up before the first of them begins."""
    plans = iter([Plan(1000, 3), Plan(1000, 4)])
    monkeypatch.setattr(Search, "_plan", lambda *_: next(plans))
    monkeypatch.setattr(Search, "_reserve_s", lambda *_: math.inf if len(answers.asked) >= 3 else 0.0)
    monkeypatch.setattr(Trial, "done", lambda this, number: (this.candidate.backbone, number) in answers.asked or None)
    _, rows = choose(photos, tmp_path / "run", GOOD)

    assert next(plans, None) is None
    assert rows[GOOD]["folds"] == "3 of 4"
    assert rows[GOOD]["score"]["value"] == pytest.approx(0.9, abs=0.03)
    assert rows[GOOD]["ended"] == "time was up after 3 folds"
    assert (tmp_path / "run" / "accuracy_latency.png").is_file()


def test_methods_without_a_network_that_time_ended_are_a_line_of_the_table(answers, photos, tmp_path, monkeypatch):
    def ended(*_):
        raise TimeUp

    monkeypatch.setattr(reference, "measured", ended)
    record, rows = choose(photos, tmp_path / "run", GOOD)

    assert rows["methods without a network"]["ended"].startswith("time was up after")
    assert record["chosen"]["settings"]["backbone"] == GOOD


def test_a_single_fold_decides_nothing_beside_several(answers, photos, tmp_path):
    answers.ends[GOOD, 2] = TimeUp()
    record, rows = choose(photos, tmp_path / "run", FAST, GOOD)

    assert rows[GOOD]["folds"] == "1 of 4"
    assert record["chosen"]["settings"]["backbone"] == FAST


def test_without_any_answer_one_is_taken_and_that_is_said(answers, photos, tmp_path, capsys):
    answers.ends[FAST, 1] = TimeUp()
    record, rows = choose(photos, tmp_path / "run", FAST)

    assert record["chosen"]["settings"]["backbone"] == FAST
    assert rows[FAST]["score"] is None
    assert "taken without cross-validation" in capsys.readouterr().out


def test_what_no_fold_has_learned_from_is_trained_without_mirroring_which_is_said(
    answers, photos, tmp_path, monkeypatch, capsys
):
    """Else the images held out for the end would decide on it, and then be reported on."""
    monkeypatch.setattr(candidate, "variants", lambda *_: ("light",))
    answers.ends[FAST, 1] = TimeUp()
    words = ["--data", str(photos), "--output", str(tmp_path / "run"), "--minutes", "60", "--backbones", FAST]

    assert command.main(words) == EXIT_INTERRUPTED

    chosen = json.loads((tmp_path / "run" / "auto.json").read_text())["chosen"]
    assert chosen["settings"]["augment"] == ["color", "crop"]
    assert "images are not mirrored: there was no time to see" in capsys.readouterr().out
