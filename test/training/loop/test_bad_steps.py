"""Owns: steps that fail: losses that are not finite, memory and disk that do not suffice, defects.

Leaves to others: what becomes of the weights in such a step (test_step).
"""

from __future__ import annotations

import csv
import math

import pytest
import torch
from paths import fill_the_disk
from tiny_run import command_line, tiny_run

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError
from training import checkpoint
from training.loop import trainer
from training.train import main


def poisoned(when):
    """A step in which the first image of the batches for which `when(progress)` holds is not a number."""
    step = trainer.Trainer.step

    def wrapped(self, batch, order):
        if when(self.progress):
            batch.images[0, 0, 0, 0] = math.nan
        step(self, batch, order)

    return wrapped


def test_a_bad_batch_is_left_out_and_named_with_its_images(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer.Trainer, "step", poisoned(lambda now: (now.epoch, now.batch) in ((0, 1), (1, 0))))
    run = tiny_run(photos, tmp_path, bad_steps=2)
    _, order = run.training_batches()
    expected = [str(run.data.part("train")[key.row].path) for key in list(order)[1]]

    records = trainer.fit(run, None)

    with (tmp_path / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(records) == 2
    assert all(math.isfinite(record.train_loss) for record in records)
    assert [(row["epoch"], row["batch"], row["loss"]) for row in rows] == [("1", "2", "nan")] * 8 + [
        ("2", "1", "nan")
    ] * 8
    assert sorted(row["path"] for row in rows[:8]) == sorted(expected)
    assert "epoch 1, batch 2 (" in capsys.readouterr().out


def test_what_was_left_out_stays_listed_when_a_run_is_continued(photos, tmp_path, monkeypatch):
    whole = trainer.Trainer.step
    first = poisoned(lambda now: (now.epoch, now.batch) == (0, 1) or now.epoch == 1)
    monkeypatch.setattr(trainer.Trainer, "step", first)
    with pytest.raises(ConfigError, match="the loss is nan in epoch 2"):
        trainer.fit(tiny_run(photos, tmp_path, bad_steps=2), None)
    monkeypatch.setattr(trainer.Trainer, "step", whole)
    monkeypatch.setattr(trainer.Trainer, "step", poisoned(lambda now: (now.epoch, now.batch) == (1, 2)))
    continued = tiny_run(photos, tmp_path, bad_steps=2, resume=True)

    trainer.fit(continued, continued.last())

    with (tmp_path / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["batch"]) for row in rows] == [("1", "2")] * 8 + [("2", "3")] * 8


def test_too_many_bad_steps_in_a_row_end_the_run_with_the_last_good_checkpoint(photos, tmp_path, monkeypatch, capsys):
    saved = []

    def second_epoch(now):
        if now.epoch == 1 and now.batch == 0:
            saved.append((tmp_path / "last.pt").read_bytes())
        return now.epoch == 1 and now.batch >= 1

    monkeypatch.setattr(trainer.Trainer, "step", poisoned(second_epoch))

    assert main(command_line(photos, tmp_path)) == EXIT_BAD_INPUT

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "the loss is nan in epoch 2, batch 4 (" in line
    assert "last.pt is intact" in line
    assert ".png and 7 more" in line
    assert (tmp_path / "last.pt").read_bytes() == saved[0]


def test_an_exploding_run_stops_and_continues_with_a_lower_rate(photos, tmp_path, monkeypatch):
    rates = trainer.schedule.lr_factor
    monkeypatch.setattr(trainer.schedule, "lr_factor", lambda config, epoch, losses: 1e30 if epoch >= 1 else 1e-3)
    run = tiny_run(photos, tmp_path, optimizer="sgd")
    with pytest.raises(ConfigError, match=r"continue with --resume and a lower --lr than 0\.001"):
        trainer.fit(run, None)
    monkeypatch.setattr(trainer.schedule, "lr_factor", rates)
    continued = tiny_run(photos, tmp_path, optimizer="sgd", resume=True, lr=5e-4, schedule="constant")

    records = trainer.fit(continued, continued.last())

    assert records[1].lr == 5e-4
    assert math.isfinite(records[1].val_loss)


def test_memory_that_does_not_suffice_names_the_batch_size(photos, tmp_path, monkeypatch, capsys):
    step = trainer.Trainer.step

    def greedy(self, batch, order):
        if self.progress.epoch == 1:
            torch.empty(2**50)
        step(self, batch, order)

    monkeypatch.setattr(trainer.Trainer, "step", greedy)

    assert main(command_line(photos, tmp_path)) == EXIT_BAD_INPUT

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "out of memory with --batch-size 8" in line
    assert f"{tmp_path / 'last.pt'} is intact" in line
    assert checkpoint.load(tmp_path / "last.pt").training["train_images"] == 32


def test_another_runtime_error_stays_a_defect(photos, tmp_path, monkeypatch):
    def broken(self, batch, order):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(trainer.Trainer, "step", broken)

    with pytest.raises(RuntimeError, match="shape mismatch"):
        main(command_line(photos, tmp_path))


def test_a_disk_that_fills_up_in_training_leaves_the_last_good_checkpoint(photos, tmp_path, monkeypatch, capsys):
    step, saved = trainer.Trainer.step, []

    def filling(self, batch, order):
        if self.progress.epoch == 1 and not saved:
            saved.append((tmp_path / "last.pt").read_bytes())
            fill_the_disk(monkeypatch, "last.pt")
        step(self, batch, order)

    monkeypatch.setattr(trainer.Trainer, "step", filling)

    assert main(command_line(photos, tmp_path)) == EXIT_BAD_INPUT

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "last.pt: disk full" in line
    assert (tmp_path / "last.pt").read_bytes() == saved[0]
