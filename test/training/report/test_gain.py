"""Owns: what fine-tuning says it gained. Leaves to others: the intervals (test_intervals), the probe (test_head)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tiny_run import SETTINGS, command_line, tiny_run, write_photos

from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.loop.run import EpochRecord
from training.networks import build
from training.report import gain
from training.train import main

FINETUNE = {"mode": "finetune", "weights": "none"}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "signs")


def right(run):
    """Which validation images the network as it is answers rightly, by their path, without the training code."""
    found = {}
    run.model.eval()
    for sample in run.data.part("val"):
        image = preprocess(decode_file_bytes(sample.path.read_bytes()), run.config.input)
        with torch.no_grad():
            found[str(sample.path)] = float(run.model(torch.from_numpy(image[None])).argmax().item() == sample.label)
    return found


def test_the_beginning_is_noted_image_by_image_and_the_network_is_as_before(photos, tmp_path):
    run = tiny_run(photos, tmp_path, **FINETUNE)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    expected = right(run)

    gain.note_beginning(run)

    noted = json.loads((tmp_path / "baseline.json").read_text())
    assert noted["start"] == expected
    assert noted["probe"].keys() == expected.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    gain.probe.start_head(run)
    assert noted["probe"] == right(run)
    assert sum(noted["probe"].values()) > sum(noted["start"].values())


def scores_of(run, hits):
    """(n, K) that are right just where `hits` says so."""
    labels = [sample.label for sample in run.data.part("val")]
    found = np.zeros((len(labels), 3))
    for row, (label, hit) in enumerate(zip(labels, hits, strict=True)):
        found[row, label if hit else (label + 1) % 3] = 1.0
    return found


@pytest.mark.parametrize(
    ("classes", "found", "is_warned"),
    [(10, 0.1, True), (10, 0.13, True), (10, 0.2, False), (2, 0.54, True), (2, 0.56, False), (1000, 0.01, False)],
)
def test_classes_told_apart_as_by_chance_are_a_warning(classes, found, is_warned):
    val = {"balanced_accuracy": found, "per_class": dict.fromkeys(range(classes))}

    assert gain.chance_warning(val).startswith("warning: it has learned next to nothing") is is_warned
    assert gain.chance_warning({"map": 0.1}) == ""


def test_what_was_gained_is_the_paired_difference_and_its_chance_is_that_of_mcnemar(photos, tmp_path):
    run = tiny_run(photos, tmp_path, **FINETUNE)
    val = run.data.part("val")
    assert len(val) == 8
    before = [1, 0, 0, 0, 0, 0, 0, 1]
    paths = [str(sample.path) for sample in val]
    (tmp_path / "baseline.json").write_text(json.dumps({"start": dict(zip(paths, before, strict=True))}))

    (found,) = gain.gains(run, val, scores_of(run, [0, 1, 1, 1, 1, 1, 1, 1]))

    assert found.difference.value == pytest.approx((6 - 1) / 8)
    assert (found.paired.gained, found.paired.lost) == (6, 1)
    assert found.paired.chance == pytest.approx(binomtest(6, 7).pvalue)
    assert "fine-tuning over the network it began with: +62.5 points (95 %: " in found.in_words()
    assert gain.as_json([found])["start"]["gained"] == 6


@pytest.mark.parametrize(("after", "warned"), [([1] * 8, False), ([1, 1, 1, 1, 0, 0, 0, 0], True)])
def test_a_gain_that_is_not_proven_is_warned_of_in_one_line(photos, tmp_path, after, warned):
    run = tiny_run(photos, tmp_path, **FINETUNE)
    paths = [str(sample.path) for sample in run.data.part("val")]
    beginnings = {"start": dict.fromkeys(paths, 0.0), "probe": dict(zip(paths, [1, 1, 1, 0, 0, 0, 0, 0], strict=True))}
    if not warned:
        beginnings["probe"] = dict.fromkeys(paths, 0.0)
    (tmp_path / "baseline.json").write_text(json.dumps(beginnings))

    said = gain.warning(gain.gains(run, run.data.part("val"), scores_of(run, after)))

    assert said.startswith("warning: no gain of fine-tuning is proven over a probe") is warned
    assert "\n" not in said


def test_a_fine_tuned_run_says_it_and_keeps_it_when_it_is_continued(photos, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(command_line(photos, folder, **FINETUNE)) == EXIT_OK

    out = capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    assert report["gain"].keys() == {"start", "probe"}
    assert "fine-tuning over a probe of its features: " in out
    assert "fine-tuning over a probe of its features: " in (folder / "report.html").read_text()
    noted = (folder / "baseline.json").read_bytes()
    saved = checkpoint.load(folder / "best.pt")
    now = build.restore(saved).eval()
    hits = {}
    for path, (label,) in zip(saved.val_images, saved.val_targets, strict=True):
        image = preprocess(decode_file_bytes(open(path, "rb").read()), saved.input)  # noqa: PTH123, SIM115
        with torch.no_grad():
            hits[path] = float(now(torch.from_numpy(image[None])).argmax().item() == label)
    for over, before in json.loads(noted).items():
        assert report["gain"][over]["difference"] == pytest.approx(np.mean([hits[p] - before[p] for p in hits]))

    assert main(["--output", str(folder), "--resume", "--epochs", "3"]) == EXIT_OK
    assert (folder / "baseline.json").read_bytes() == noted


def test_a_head_that_begins_as_a_probe_is_compared_with_it_alone(photos, tmp_path):
    run = tiny_run(photos, tmp_path, **FINETUNE, head_init="probe")

    gain.note_beginning(run)

    assert json.loads((tmp_path / "baseline.json").read_text()).keys() == {"probe"}


def test_a_run_from_scratch_or_without_a_beginning_says_nothing(photos, tmp_path):
    assert SETTINGS["mode"] == "scratch"
    scratch = tiny_run(photos, tmp_path / "a")
    (tmp_path / "a" / "baseline.json").write_text("{}")
    older = tiny_run(photos, tmp_path / "b", **FINETUNE)

    for run in (scratch, older):
        assert gain.gains(run, run.data.part("val"), scores_of(run, [1] * 8)) == []
    assert gain.warning([]) == ""


@pytest.mark.parametrize(
    ("metrics", "metric", "is_warned"),
    [
        ([0.09, 0.25, 0.34, 0.19], "top1", True),
        ([0.09, 0.25, 0.34, 0.23], "top1", False),
        ([0.5, 0.9, 0.97, 0.96], "top1", False),
        ([0.1, 0.1, 0.1, 0.1], "top1", False),
        ([0.34, 0.19], "top1", False),
        ([0.09, 0.25, 0.34, 0.19], "map", False),
    ],
    ids=["most is lost", "more than half is left", "steady", "nothing learned", "two epochs", "another metric"],
)
def test_a_training_whose_best_epoch_was_a_lucky_jump_is_a_warning(metrics, metric, is_warned):
    """Ten classes: by chance 10 %, so that of 34 % in the best epoch 24 points are learned and 22 % is half of them."""
    history = [
        EpochRecord(epoch, "all", 3.0, 2.0, value, 2.0, value, 0.1, metric) for epoch, value in enumerate(metrics, 1)
    ]
    told = gain.unsteady_warning(history, 10)
    assert bool(told) is is_warned
    if is_warned:
        assert "19.0% in the last epoch, 34.0% in the best, 3; the learning rate is too high" in told
