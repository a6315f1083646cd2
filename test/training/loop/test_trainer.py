"""Owns: what fine-tuning does beyond its steps: the average of the weights, the checkpoint that is kept, stopping
early, interruption, compilation, TensorBoard. Leaves to others: whole runs (test_train), one step (test_step).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
import shutil
import signal
import sys

import pytest
import torch
from PIL import Image
from tiny_images import scene
from tiny_run import command_line, same, tiny_run, weights

from cnn_perception.errors import EXIT_BAD_INPUT
from training import checkpoint
from training.batches import loader, workers
from training.loop import trainer
from training.loop.step import Learner
from training.train import main


def continue_run(photos, folder, settings):
    torch.manual_seed(99)
    rest = tiny_run(photos, folder, resume=True, **settings)
    trainer.fit(rest, rest.last())


def assert_same_run(one, other):
    assert history(one) == history(other)
    for name in ("best.pt", "last.pt"):
        assert same(weights(one / name), weights(other / name))


def history(folder):
    with (folder / "history.csv").open() as file:
        return [{name: v for name, v in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_a_ctrl_c_while_a_batch_does_not_come_drops_its_step_and_saves(photos, tmp_path, monkeypatch):
    for module, name in ((workers, "POLL_S"), (loader, "POLL_S"), (workers, "LAST_BATCH_S")):
        monkeypatch.setattr(module, name, 0.3)
    settings = {"accumulate": 2, "epochs": 1, "backbone": "mobilenet_v3_small", "optimizer": "sgd", "workers": 1}
    data = shutil.copytree(photos, tmp_path / "data")
    trainer.fit(tiny_run(data, tmp_path / "whole", **settings), None)
    run = tiny_run(data, tmp_path / "parts", **settings)
    order = run.training_batches()[1]
    missing = run.data.part("train")[int(order.rows()[3 * 8])].path  # in the fourth batch, the last of its step
    kept = missing.read_bytes()
    missing.unlink()
    os.mkfifo(missing)  # whoever opens it waits for ever
    step, count = trainer.Trainer.step, []

    def interrupting(self, *arguments):
        count.append(1)
        step(self, *arguments)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(run, None)
    assert len(count) == 3
    assert checkpoint.load(tmp_path / "parts" / "last.pt").resume["progress"]["batch"] == 2

    missing.unlink()
    missing.write_bytes(kept)
    continue_run(data, tmp_path / "parts", settings)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_without_a_cache_the_weights_are_the_same(tmp_path):
    """The photographs are larger than what is kept of them."""
    for number in range(12):
        place = tmp_path / "d" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number, 240, 300)).save(place / f"{number}.jpg")
    for name, room in (("with", 1.0), ("without", 0.0)):
        trainer.fit(tiny_run(tmp_path / "d", tmp_path / name, augment=("light",), cache_gb=room), None)

    assert (tmp_path / "with" / "cache").is_dir()
    assert not (tmp_path / "without" / "cache").exists()
    assert_same_run(tmp_path / "with", tmp_path / "without")


def test_the_best_checkpoint_holds_the_average_of_the_weights(photos, tmp_path, monkeypatch):
    run, seen = tiny_run(photos, tmp_path, ema=0.3, epochs=1, batch_size=16), []
    learn = Learner.learn

    def noting(self, *given):
        outcome = learn(self, *given)
        seen.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        return outcome

    start = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    monkeypatch.setattr(Learner, "learn", noting)

    trainer.fit(run, None)

    # two steps; the share kept is min(0.3, (1 + n) / (10 + n)): 2 / 11 and 3 / 12
    expected = {k: 2 / 11 * start[k] + 9 / 11 * seen[0][k] for k in start}
    expected = {k: 0.25 * expected[k] + 0.75 * seen[1][k] for k in start}
    assert same(weights(tmp_path / "best.pt"), expected, rtol=1e-5, atol=1e-7)
    assert same(weights(tmp_path / "last.pt"), seen[1])


def test_a_run_with_everything_on_continues_as_if_never_interrupted(photos, tmp_path, monkeypatch):
    settings = {
        "ema": 0.9, "accumulate": 2, "schedule": "onecycle", "warmup_epochs": 1.0,
        "clip_norm": 1.0, "balance": "weights", "mixup": 0.2, "dropout": 0.2, "augment": ("light",), "batch_size": 4,
        "optimizer": "sgd",
    }  # fmt: skip
    whole = tiny_run(photos, tmp_path / "whole", **settings)
    trainer.fit(whole, None)
    step, count = trainer.Trainer.step, []

    def interrupting(self, *arguments):
        count.append(1)
        if len(count) == 11:  # the third of the second epoch's eight batches: the first of a step
            os.kill(os.getpid(), signal.SIGINT)
        step(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(tiny_run(photos, tmp_path / "parts", **settings), None)
    assert len(count) == 12
    monkeypatch.undo()

    continue_run(photos, tmp_path / "parts", settings)

    assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(("select", "kept"), [("best", "first"), ("last", "last")])
def test_the_checkpoint_kept_is_the_best_by_validation_or_the_last_whatever_that_says(
    photos, tmp_path, monkeypatch, select, kept
):
    run, ends = tiny_run(photos, tmp_path, epochs=3, select=select, lr=0.01), []

    def worse_and_worse(self, _val, _interrupt):
        ends.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        return {"val_loss": float(len(ends)), "val_top1": 1 / len(ends)}

    monkeypatch.setattr(trainer.Trainer, "validate", worse_and_worse)

    trainer.fit(run, None)

    assert not same(ends[0], ends[-1])
    assert same(weights(tmp_path / "best.pt"), ends[0] if kept == "first" else ends[-1])


def test_early_stopping_ends_when_no_epoch_was_better_for_that_long(photos, tmp_path):
    # weights that do not move give the same loss again and again
    run = tiny_run(photos, tmp_path, epochs=9, early_stop=2, lr=1e-12, optimizer="sgd")

    assert len(trainer.fit(run, None)) == 3
    again = dataclasses.replace(run, config=dataclasses.replace(run.config, resume=True))
    assert len(trainer.fit(again, again.last())) == 3


def test_a_run_that_dies_between_its_two_checkpoints_continues_to_the_same_end(photos, tmp_path, monkeypatch):
    settings, save = {"ema": 0.9, "accumulate": 2, "batch_size": 4}, trainer.Run.save
    trainer.fit(tiny_run(photos, tmp_path / "whole", **settings), None)

    def dying(self, names, metrics, resume):
        if names == ["last.pt"] and len(history(tmp_path / "parts")) == 2:
            raise SystemExit
        save(self, names, metrics, resume)

    monkeypatch.setattr(trainer.Run, "save", dying)
    with pytest.raises(SystemExit):
        trainer.fit(tiny_run(photos, tmp_path / "parts", **settings), None)
    monkeypatch.undo()

    continue_run(photos, tmp_path / "parts", settings)

    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_what_cannot_be_compiled_is_said_and_trained_without(photos, tmp_path, monkeypatch, capsys):
    def failing(_graph, _inputs):
        raise OSError("no compiler")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=failing))

    assert len(trainer.fit(tiny_run(photos, tmp_path, compile=True, epochs=1), None)) == 1

    assert "--compile: torch.compile fails here" in capsys.readouterr().out


def test_a_compiled_run_learns_the_same_and_keeps_the_names_of_its_weights(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    for name in ("plain", "compiled"):
        trainer.fit(tiny_run(photos, tmp_path / name, compile=name == "compiled", epochs=1), None)

    plain, compiled = (weights(tmp_path / name / "last.pt") for name in ("plain", "compiled"))
    assert same(plain, compiled, rtol=1e-4, atol=1e-6)


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)

    assert main([*command_line(photos, tmp_path), "--tensorboard"]) == EXIT_BAD_INPUT

    assert "pip install tensorboard" in capsys.readouterr().err


def test_tensorboard_gets_the_numbers_of_history_csv(photos, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = trainer.fit(tiny_run(photos, tmp_path, tensorboard=True), None)

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("val_loss")] == pytest.approx([r.val_loss for r in records])
