"""Owns: what a training step does: accumulation, clipping, the average of the weights, the teacher; early stopping;
steps that fail, memory and disk that do not suffice. Leaves to others: whole runs, interruption (test_train)."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
import os
import signal
import sys

import pytest
import torch
from paths import fill_the_disk
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_run import command_line, tiny_run, write_photos
from torch import nn
from torch.nn.functional import cross_entropy

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError, DataError
from training import checkpoint
from training.loop import distillation, linear_solver, probe, trainer
from training.loop.step import BatchPosition, Learner
from training.networks import backbones
from training.networks.weights import classifier_name
from training.train import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "signs")


def weights(path):
    return checkpoint.load(path).model


def continue_run(photos, folder, settings):
    torch.manual_seed(99)
    rest = tiny_run(photos, folder, resume=True, **settings)
    trainer.fit(rest, rest.last())


def assert_same_run(one, other):
    assert history(one) == history(other)
    for name in ("best.pt", "last.pt"):
        assert same(weights(one / name), weights(other / name))


def same(one, other, **tolerance):
    close = torch.equal if not tolerance else functools.partial(torch.allclose, **tolerance)
    return one.keys() == other.keys() and all(close(tensor, other[name]) for name, tensor in one.items())


def history(folder):
    with (folder / "history.csv").open() as file:
        return [{name: v for name, v in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def random_batch(count=8, seed=0):
    made = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 40, generator=made), torch.arange(count) % 3


ALONE = BatchPosition(first=True, last=True, images=8)


def test_accumulated_batches_are_one_larger_batch(photos, tmp_path):
    # 32 images: the last of the larger batches of 12 has 8, which are 2 batches of 4
    large = tiny_run(photos, tmp_path / "large", batch_size=12, optimizer="sgd", lr=0.01)
    small = tiny_run(photos, tmp_path / "small", batch_size=4, accumulate=3, optimizer="sgd", lr=0.01)

    trainer.fit(large, None)
    trainer.fit(small, None)

    assert same(weights(tmp_path / "large" / "last.pt"), weights(tmp_path / "small" / "last.pt"), rtol=1e-4, atol=1e-6)


def test_a_step_is_no_longer_than_its_gradient_clipped(photos, tmp_path):
    run = tiny_run(photos, tmp_path, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=0.5, clip_norm=0.01)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    learner = Learner(run)
    learner.begin("all")

    learner.learn(*random_batch(), ALONE)

    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in run.model.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.5 * 0.01, rel=1e-2)


def test_the_best_checkpoint_holds_the_average_of_the_weights(photos, tmp_path, monkeypatch):
    run, seen = tiny_run(photos, tmp_path, ema=0.3, epochs=1, batch_size=16), []
    learn = Learner.learn

    def noting(self, images, targets, place):
        outcome = learn(self, images, targets, place)
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


def test_the_head_begins_as_a_logistic_regression_on_the_training_images(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_solver, "WEIGHT_DECAYS", (0.1,))
    settings = {"mode": "finetune", "weights": "none", "head_init": "probe", "lr": 1e-12, "optimizer": "sgd"}
    run = tiny_run(photos, tmp_path, **settings)
    name = classifier_name(run.model)
    embeddings, labels = seen_by_last_layer(run, name)
    scaled = StandardScaler().fit(embeddings)
    # scikit-learn minimises the sum of the losses times C, plus half of the squared weights; torch's standard
    # deviation divides by n - 1
    x = (embeddings - scaled.mean_) / (scaled.scale_ * math.sqrt(len(labels) / (len(labels) - 1)))
    oracle = LogisticRegression(C=1 / (len(labels) * 0.1), tol=1e-8, max_iter=5000).fit(x, labels)

    trainer.fit(run, None)

    last = weights(tmp_path / "last.pt")
    logits = torch.from_numpy(embeddings) @ last[f"{name}.weight"].T + last[f"{name}.bias"]
    assert logits.softmax(1).numpy() == pytest.approx(oracle.predict_proba(x), abs=5e-3)


def seen_by_last_layer(run, name):
    found, labels = [], []
    handle = run.model.get_submodule(name).register_forward_pre_hook(lambda _layer, given: found.append(given[0]))
    run.model.eval()
    with torch.no_grad():
        for batch in run.evaluation_batches("train"):
            run.model(batch.images)
            labels.append(batch.labels)
    handle.remove()
    return torch.cat(found).numpy(), torch.cat(labels).numpy()


def test_a_continued_run_keeps_the_head_it_had(photos, tmp_path, monkeypatch):
    settings = {"mode": "finetune", "weights": "none", "head_init": "probe", "backbone": "lenet5"}
    trainer.fit(tiny_run(photos, tmp_path / "whole", epochs=2, **settings), None)
    ends = trainer.Trainer.finished
    monkeypatch.setattr(trainer.Trainer, "finished", lambda self: ends(self) or self.progress.epoch == 1)
    trainer.fit(tiny_run(photos, tmp_path / "parts", epochs=2, **settings), None)
    monkeypatch.undo()
    monkeypatch.setattr(probe, "start_head", lambda _run: pytest.fail("begun anew"))
    rest = tiny_run(photos, tmp_path / "parts", resume=True, epochs=2, **settings)

    trainer.fit(rest, rest.last())

    assert same(weights(tmp_path / "parts" / "last.pt"), weights(tmp_path / "whole" / "last.pt"))


def test_a_head_that_no_probe_can_begin_is_refused(photos, tmp_path):
    run = tiny_run(photos, tmp_path, mode="finetune", weights="none", head_init="probe", backbone="squeezenet1_1")

    with pytest.raises(ConfigError, match="--head-init random"):
        trainer.fit(run, None)


def test_frozen_norms_normalise_by_what_they_were_while_their_scale_learns(photos, tmp_path):
    settings = {"mode": "finetune", "weights": "none", "backbone": "resnet18", "lr": 0.01, "optimizer": "sgd"}
    run = tiny_run(photos, tmp_path, freeze_norm=True, **settings)
    images, targets = random_batch()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.model.eval()
    with torch.no_grad():
        expected = cross_entropy(run.model(images), targets, label_smoothing=run.config.label_smoothing)
    learner = Learner(run)
    learner.begin("all")

    outcome = learner.learn(images, targets, ALONE)

    assert outcome.loss == pytest.approx(expected.item(), rel=1e-5)
    after = run.model.state_dict()
    changed = {name.rpartition(".")[2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"weight", "bias"}
    assert not torch.equal(after["bn1.weight"], before["bn1.weight"])


def test_early_stopping_ends_when_no_epoch_was_better_for_that_long(photos, tmp_path):
    # weights that do not move give the same loss again and again
    run = tiny_run(photos, tmp_path, epochs=9, early_stop=2, lr=1e-12, optimizer="sgd")

    assert len(trainer.fit(run, None)) == 3
    again = dataclasses.replace(run, config=dataclasses.replace(run.config, resume=True))
    assert len(trainer.fit(again, again.last())) == 3


def test_rare_classes_weigh_more_in_the_loss(photos, tmp_path):
    run = tiny_run(photos, tmp_path, balance="weights")
    images, targets = random_batch()
    learner = Learner(run)
    learner.begin("all")
    counts = torch.tensor([sum(s.label == k for s in run.data.part("train")) for k in range(3)])
    expected = cross_entropy(run.model(images), targets, weight=32 / (3 * counts))

    assert learner.learn(images, targets, ALONE).loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("bad", ["image", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(photos, tmp_path, bad):
    run = tiny_run(photos, tmp_path, backbone="resnet18", ema=0.9)
    learner = Learner(run)
    learner.begin("all")
    learner.learn(*random_batch(), ALONE)
    images, targets = random_batch(seed=1)
    if bad == "image":
        images[0, 0, 0, 0] = math.nan
    else:
        run.model.fc.weight.register_hook(lambda gradient: gradient * math.inf)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    average = learner.average.state()["tensors"]["fc.weight"].clone()

    outcome = learner.learn(images, targets, ALONE)

    assert not math.isfinite(outcome.loss_sum)
    changed = [name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == []
    assert torch.equal(learner.average.state()["tensors"]["fc.weight"], average)


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


@pytest.fixture(scope="module")
def taught(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    trainer.fit(tiny_run(photos, folder, backbone="squeezenet1_1", epochs=3), None)
    return folder / "best.pt"


def test_the_divergence_is_that_of_hintons_paper():
    outputs, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    p, q = torch.softmax(teacher / 2.5, 1), torch.softmax(outputs / 2.5, 1)

    expected = (p * (p.log() - q.log())).sum() / 5 * 2.5**2

    assert distillation.divergence(outputs, teacher, 2.5).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_comes_to_answer_as_its_teacher_does(photos, taught, tmp_path):
    run = tiny_run(
        photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=1.0, epochs=6, batch_size=4
    )
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(weights(taught))
    batch, *_ = run.evaluation_batches("val")

    def distance():
        run.model.eval()
        with torch.no_grad():
            scores = [torch.log_softmax(model(batch.images), 1) for model in (run.model, teacher)]
        return nn.functional.kl_div(*scores, reduction="batchmean", log_target=True).item()

    before = distance()
    trainer.fit(run, None)

    assert distance() < before / 2


def test_the_loss_is_the_labels_and_the_teachers_by_their_shares(photos, taught, tmp_path):
    run = tiny_run(
        photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=0.25, distil_temperature=2.0
    )
    images, targets = random_batch()
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(weights(taught))
    with torch.no_grad():
        own, theirs = run.model.train()(images), teacher(images)
        soft = nn.functional.kl_div((own / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean") * 4
    learner = Learner(run)
    learner.begin("all")

    loss = learner.learn(images, targets, ALONE).loss

    assert loss == pytest.approx(0.75 * cross_entropy(own, targets).item() + 0.25 * soft.item(), rel=1e-4)


def test_a_teacher_of_other_classes_or_another_input_is_refused(photos, taught, tmp_path):
    saved = checkpoint.load(taught)
    checkpoint.save(tmp_path / "other.pt", dataclasses.replace(saved, class_names=("go", "slow", "stop")))
    size = dataclasses.replace(saved.input, height=64)
    checkpoint.save(tmp_path / "larger.pt", dataclasses.replace(saved, input=size))
    cases = (
        ("other.pt", ConfigError, "slow"),
        ("larger.pt", ConfigError, "--input-size"),
        ("gone.pt", DataError, "gone"),
    )
    for name, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            Learner(tiny_run(photos, tmp_path / "run", teacher=str(tmp_path / name)))
        assert "\n" not in str(caught.value)


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
