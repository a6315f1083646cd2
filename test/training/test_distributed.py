"""Owns: training by several processes. Leaves to others: training by one (test_train, test_trainer)."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time

import bad_batch
import pytest
import torch
from paths import ROOT
from tiny_images import write_folder
from tiny_run import command_line, tiny_run, write_photos

from training import checkpoint
from training.batches.loader import Order
from training.loop import trainer

SETTINGS = {"optimizer": "sgd", "lr": 0.01, "accumulate": 2, "batch_size": 4, "ema": 0.5, "cache_gb": 0.1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "signs")


@pytest.fixture(autouse=True)
def _two_bad_steps(monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "step", bad_batch.step)


@pytest.fixture
def alone(photos, tmp_path):
    trainer.fit(tiny_run(photos, tmp_path / "alone", **SETTINGS), None)
    return tmp_path / "alone"


def torchrun(*arguments):
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "test/support/runs/bad_batch.py",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def wait_until(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_same_run(folder, alone):
    for name in ("best.pt", "last.pt"):
        ours, theirs = (checkpoint.load(f / name).model for f in (folder, alone))
        assert all(torch.allclose(t, theirs[key], rtol=1e-4, atol=1e-5) for key, t in ours.items())
    for ours, theirs in zip(history(folder), history(alone), strict=True):
        for column in ("train_loss", "val_loss", "train_metric", "val_metric"):
            assert float(ours[column]) == pytest.approx(float(theirs[column]), rel=1e-3)


def test_each_process_takes_its_share_of_the_same_batch():
    whole = list(Order(22, 8, 3))
    shares = [list(Order(22, 8, 3, share=(number, 2))) for number in (0, 1)]

    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(first + second)
        assert abs(len(first) - len(second)) <= 1


def test_a_last_batch_too_small_to_share_is_left_out():
    # 18 = 2 x 8 + 2, which would be one image each
    assert len(Order(18, 8, 3, share=(0, 2))) == 2
    assert len(Order(19, 8, 3, share=(0, 2))) == 2
    assert len(Order(20, 8, 3, share=(0, 2))) == 3


def test_two_processes_train_the_network_of_one_and_one_of_them_writes(photos, alone, tmp_path):
    run = torchrun(*command_line(photos, tmp_path / "two", **SETTINGS))

    out, err = run.communicate(timeout=150)

    assert run.returncode == 0, err
    assert_same_run(tmp_path / "two", alone)
    assert (tmp_path / "two" / "skipped.csv").read_text() == (alone / "skipped.csv").read_text()
    assert out.count("python -m training.export") == 1
    assert len(re.findall("val loss", out)) == 2
    assert len(re.findall("validating: *0%", err)) <= 2
    assert list((tmp_path / "two").glob(".*")) == []  # no unfinished file


def test_the_weights_of_classes_are_those_of_the_step_over_all_processes(tmp_path):
    unbalanced = write_folder(tmp_path / "signs", {"go": 25, "stop": 9, "turn": 6})
    settings = {**SETTINGS, "balance": "weights", "lr": 0.05}
    trainer.fit(tiny_run(unbalanced, tmp_path / "alone", **settings), None)
    run = torchrun(*command_line(unbalanced, tmp_path / "two", **settings))

    _, err = run.communicate(timeout=150)

    assert run.returncode == 0, err
    assert_same_run(tmp_path / "two", tmp_path / "alone")


def test_ctrl_c_ends_all_processes_and_the_run_can_be_continued(photos, alone, tmp_path):
    run = torchrun(*command_line(photos, tmp_path / "two", **SETTINGS))
    wait_until(lambda: (tmp_path / "two" / "history.csv").exists() or run.poll() is not None)
    assert run.poll() is None

    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)

    assert run.returncode != 0
    assert "continue with python -m training.train --output" in err or len(history(tmp_path / "two")) == 2
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
    rest = tiny_run(photos, tmp_path / "two", resume=True, **SETTINGS)
    trainer.fit(rest, rest.last())
    assert_same_run(tmp_path / "two", alone)
