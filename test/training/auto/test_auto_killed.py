"""Owns: the command killed in its midst, as by a power cut, and given again. Leaves to others: Ctrl-C, lost files."""

from __future__ import annotations

import csv
import json
import multiprocessing
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import quick_auto
import torch
from tiny_images import write_folder

from cnn_perception.errors import EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel
from training import checkpoint
from training.auto import candidate
from training.report import page

NETWORK = "layers: conv 4 5x5 s2, relu, pool 2x2, conv 8 3x3, relu, gap, fc"
MOST_S = 120.0


@dataclass(frozen=True)
class Killed:
    """A folder whose command was killed after a fold, then in its last training, and then came to its end.

    Attributes:
        folder: It.
        fold_ns: When the first fold was done.
        epochs_s: What each epoch of the last training had taken that was over.
    """

    folder: Path
    fold_ns: int
    epochs_s: list[float]


def words(photos: Path, folder: Path) -> list[str]:
    usual = ["--data", str(photos), "--output", str(folder), "--minutes", "30", "--folds", "2", "--augment", "none"]
    return [*usual, "--test-fraction", "0.2", "--device", "cpu", "--input-size", "32x32", "--backbones", NETWORK]


def kill_at(pattern: str, folder: Path, given: Sequence[str]) -> Path:
    """Runs the command in a process, and kills it as soon as there is a file in the folder, which is returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.auto.finish"])  # else each process imports torch for itself
    process = context.Process(target=quick_auto.main, args=(given,))
    process.start()
    until = time.monotonic() + MOST_S
    while not list(folder.glob(pattern)) and process.is_alive() and time.monotonic() < until:
        process.join(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (found,) = folder.glob(pattern)
    return found


def leave_as_killed_earlier(folder: Path, fold: Path) -> None:
    """What lies there if it is killed in the midst of a write, and before it has removed a fold's weights."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    (fold / "best.pt").touch()
    (fold / f".last.pt.{ended.pid}.tmp").touch()
    (folder / f".auto.json.{ended.pid}.tmp").touch()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    root = tmp_path_factory.mktemp("killed")
    folder = root / "auto"
    given = words(write_folder(root / "signs", {"go": 14, "stop": 15}), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate, "usual_epochs", candidate.usual_epochs)
        patch.setattr(page, "write", lambda *_: None)  # takes seconds, and is test_training_page's
        torch.set_num_threads(1)
        fold = kill_at("trials/*/fold1/report.json", folder, given)
        fold_ns = fold.stat().st_mtime_ns
        leave_as_killed_earlier(folder, fold.parent)
        last = checkpoint.load(kill_at("final/last.pt", folder, given))
        epochs_s = [one["seconds"] for one in last.resume["progress"]["history"]]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        assert quick_auto.main(given) == EXIT_OK
        signal.signal(signal.SIGINT, before)
    return Killed(folder, fold_ns, epochs_s)


def test_a_fold_that_was_done_is_not_done_again(killed: Killed):
    (first,) = killed.folder.glob("trials/*/fold1/report.json")

    assert first.stat().st_mtime_ns == killed.fold_ns


def test_the_last_training_goes_on_with_the_epoch_after_the_last_that_was_kept(killed: Killed):
    with (killed.folder / "final" / "history.csv").open() as file:
        history = list(csv.DictReader(file))

    assert [int(one["epoch"]) for one in history] == list(range(1, len(history) + 1))
    assert len(history) == quick_auto.EPOCHS
    assert len(killed.epochs_s) < len(history)
    assert [float(one["seconds"]) for one in history[: len(killed.epochs_s)]] == pytest.approx(killed.epochs_s)


def test_every_training_image_was_answered_once_and_the_test_part_scored_once(killed: Killed):
    (row, *_) = json.loads((killed.folder / "auto.json").read_text())["rows"]

    assert (row["folds"], row["images"]) == ("2 of 2", 17)  # 29 without 6 of the test and 6 of the validation part
    assert len((killed.folder / "final" / "test_part_scored.csv").read_text().splitlines()) == 2


def test_nothing_is_left_but_what_a_search_leaves(killed: Killed):
    assert {path.name for path in killed.folder.iterdir()} == {
        "accuracy_latency.png", "auto.csv", "auto.json", "final", "model.onnx", "trials"
    }  # fmt: skip
    assert not list(killed.folder.glob("trials/**/*.pt"))
    assert not list(killed.folder.rglob("*.tmp"))
    assert OnnxModel(killed.folder / "model.onnx").spec.class_names == ("go", "stop")
