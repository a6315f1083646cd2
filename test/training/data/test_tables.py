"""Owns: training on several tables, and on tables that are labelled in part, from the command line to the report.

Leaves to others: how tables are listed and divided (test_sources), the figures of the unknown rule (test_outside).
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_images import write_folder
from tiny_run import command_line, same, weights

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.label_text import NONE_OF_THESE
from training import check, checkpoint, evaluate, export
from training.baselines import command as baselines_command
from training.calibration import embeddings, unknown_rule
from training.config import sources_of
from training.loop.run import open_run, settings
from training.train import main


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def table(file: Path, rows, columns=("class",)):
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(("path", *columns))
        writer.writerows(rows)
    return file


def rows_of(folder, base, classes=("go", "stop")):
    """A row for each image of some class folders, as seen from another folder."""
    return [
        (path.relative_to(base), path.parent.name) for name in classes for path in sorted((folder / name).iterdir())
    ]


def words(paths, run, **changes):
    """The arguments of a run on several tables."""
    first, *rest = command_line("DATA", run, **{"epochs": 1, **changes})[2:], *()
    return ["--data", *map(str, paths), *first, *rest]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two tables in folders of their own, one table of all their rows, and images of none of the classes in all."""
    root = tmp_path_factory.mktemp("two")
    everything = []
    for number, name in enumerate("ab"):
        folder = root / name
        write_folder(folder, {"go": 14, "stop": 14, "odd": 14}, first_seed=5000 * number)
        rows = rows_of(folder, folder)
        rows += [(path, NONE_OF_THESE) for path, _ in rows_of(folder, folder, ("odd",))]
        everything += [(Path(name) / path, label) for path, label in rows]
        table(folder / "labels.csv", rows)
    table(root / "all.csv", everything)
    return root


@pytest.fixture(scope="module")
def trained(two, tmp_path_factory):
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(words([two / "a", two / "b" / "labels.csv"], run, epochs=2)) == EXIT_OK
    return run


def test_training_on_two_tables_is_training_on_one_of_all_rows(two, trained, tmp_path):
    assert main(words([two / "all.csv"], tmp_path / "one", epochs=2)) == EXIT_OK

    assert same(weights(trained / "best.pt"), weights(tmp_path / "one" / "best.pt"))
    reports = [json.loads((run / "report.json").read_text()) for run in (trained, tmp_path / "one")]
    assert reports[0]["val"] == reports[1]["val"]
    assert reports[0]["calibration"] == reports[1]["calibration"]


def test_the_run_remembers_all_tables_and_its_commands_name_them(two, trained, tmp_path, capsys):
    paths = (str(two / "a"), str(two / "b" / "labels.csv"))
    saved = checkpoint.load(trained / "best.pt")
    assert sources_of(saved.config) == paths == sources_of(json.loads((trained / "config.json").read_text()))
    assert saved.training["data"] == "a+labels.csv"

    command = shlex.split(json.loads((trained / "report.json").read_text())["command"])
    command[command.index("--output") + 1] = str(tmp_path / "again")
    assert main(command[3:]) == EXIT_OK
    assert same(weights(trained / "best.pt"), weights(tmp_path / "again" / "best.pt"))

    assert main(["--output", str(trained), "--resume", "--device", "cpu"]) == EXIT_OK
    assert "a+labels.csv_lenet5.onnx" in capsys.readouterr().out


def test_a_run_of_one_table_as_the_version_before_kept_it_goes_on(two, tmp_path):
    assert main(words([two / "a"], tmp_path / "run")) == EXIT_OK
    config = tmp_path / "run" / "config.json"
    kept = json.loads(config.read_text())
    config.write_text(json.dumps(kept | {"data": kept["data"][0]}))

    assert main(["--output", str(tmp_path / "run"), "--resume", "--epochs", "2", "--device", "cpu"]) == EXIT_OK
    assert sources_of({"data": "d"}) == ("d",)


def test_every_program_takes_several_tables(two, trained, tmp_path, capsys):
    data = ["--data", str(two / "a"), str(two / "b" / "labels.csv")]

    assert check.main([*data, "--preview", str(tmp_path / "preview.html"), "--mode", "probe"]) == EXIT_OK
    said = capsys.readouterr().out
    assert f"{two / 'a'}: 28 images (22 train, 6 val, divided here); 14 rows are 'none of these'" in said
    assert "Preview of a+labels.csv" in (tmp_path / "preview.html").read_text()

    at = ["--checkpoint", str(trained / "best.pt")]
    assert evaluate.main([*at, *data, "--output", str(tmp_path)]) == EXIT_OK
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["data"] == data[1:]
    assert found["images"] == json.loads((trained / "report.json").read_text())["val"]["images"]
    assert baselines_command.main([*data, "--input-size", "32x40", "--most-images", "20"]) == EXIT_OK
    assert baselines_command.main(at) == EXIT_OK
    assert export.main([*at, *data, "--output", str(tmp_path / "m.onnx")]) == EXIT_OK


def test_moved_tables_are_found_each_at_its_place(two, trained, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there" / "deep"
    there.parent.mkdir()
    (two / "a").rename(here)
    (two / "b").rename(there)
    try:
        exported = ["--checkpoint", str(trained / "best.pt"), "--output", str(tmp_path / "m.onnx"), "--gallery", "2"]
        assert export.main([*exported, "--data", str(here), str(there / "labels.csv")]) == EXIT_OK
        assert export.main([*exported, "--data", str(here)]) == EXIT_BAD_INPUT
        assert re.search("--data: 1 given; name where each of .* is now", capsys.readouterr().err)
        assert export.main([*exported, "--data", str(there), str(here / "labels.csv")]) == EXIT_BAD_INPUT
    finally:
        here.rename(two / "a")
        there.rename(two / "b")


def test_planted_images_of_none_measure_the_rule_as_scikit_learn_does(two, trained):
    run = open_run(settings({"output": str(trained), "resume": True, "device": "cpu"}))
    run.model.load_state_dict(checkpoint.load(trained / "best.pt").model)
    found = embeddings.of_run(run)

    report = json.loads((trained / "report.json").read_text())["calibration"]["unknown"]

    with (trained / "split.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == NONE_OF_THESE]
    parts = {part: {row["path"] for row in rows if row["part"] == part} for part in ("train", "val")}
    assert {str(sample.path) for sample in found["outside"].samples} == parts["val"]
    assert {str(sample.path) for sample in found["choosing"].samples} == parts["train"]
    assert report["outside_images"] == len(parts["val"]) > 0
    middles = unknown_rule.centres(found["train"])
    for method, area in report["auroc_of_methods"].items():
        scores = [unknown_rule.score(found[part], method, middles) for part in ("val", "outside")]
        truth = [1] * len(scores[0]) + [0] * len(scores[1])
        assert area == pytest.approx(roc_auc_score(truth, np.concatenate(scores)), abs=1e-6)
    assert f"{len(parts['train'])} others, of the training part, chose" in report["outside"]["measured_by"]


def test_evaluate_says_what_the_rule_makes_of_images_of_none_of_its_part(two, trained, tmp_path, capsys):
    data = ["--data", str(two / "a"), str(two / "b" / "labels.csv")]
    assert evaluate.main(["--checkpoint", str(trained / "best.pt"), *data, "--output", str(tmp_path)]) == EXIT_OK

    (scores,) = json.loads((tmp_path / "report.json").read_text())["scores"].values()
    figures = scores["none_of_these"]
    known = json.loads((trained / "report.json").read_text())["calibration"]["unknown"]
    assert figures["images"] == known["outside_images"]
    assert figures["called_unknown"] == known["outside"]["called_unknown"]
    assert figures["auroc"] == pytest.approx(known["outside"]["auroc"], abs=1e-6)
    assert f"of {figures['images']} images of none of the classes" in capsys.readouterr().out


def test_nothing_labelled_is_one_line_and_a_part_labelled_is_trained(tmp_path, capsys):
    folder = write_folder(tmp_path / "d", {"go": 10, "stop": 10})
    empty = [(path, "", "") for path, _ in rows_of(folder, folder)]
    file = table(folder / "labels.csv", empty, ("class", "state"))
    assert main(words([folder], tmp_path / "run")) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {folder}: none of its 20 rows has a label yet")

    half = [(path, name, "labelled") if i % 2 else (path, "", "skipped") for i, (path, name) in enumerate(
        rows_of(folder, folder))]  # fmt: skip
    table(file, half, ("class", "state"))
    assert main(words([folder], tmp_path / "run")) == EXIT_OK

    assert "10 of 20 rows have no label yet: left out" in capsys.readouterr().out
    assert "10 of 20 rows have no label yet" in (tmp_path / "run" / "report.html").read_text()
