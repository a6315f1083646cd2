"""Owns: training from command line to report, its optimisation, interruption and failures.

Leaves to others: data (test_load), augmentation, checkpoint files, settings (test_training_config).
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from paths import ROOT, UNWRITABLE
from sklearn import metrics as oracle
from tiny_images import write_folder
from torch import nn

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.config import make
from training.loop import probe, trainer
from training.loop import schedule as optimise
from training.networks import backbones
from training.train import main

FILES = {
    "config.json", "split.csv", "history.csv", "best.pt", "last.pt", "report.json", "report.html",
    "learning_curves.png", "confusion_matrix.png",
}  # fmt: skip


FINETUNE = ("--epochs", "3", "--head-epochs", "1", "--last-stage-epochs", "1", "--dropout", "0.3", "--augment", "light")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 12, "stop": 15, "turn": 13})


def arguments(photos, run, mode, *more):
    common = ["--data", str(photos), "--output", str(run), "--mode", mode, "--backbone", "resnet18", "--device", "cpu"]
    return [*common, "--weights", "none", "--input-size", "32x40", "--batch-size", "8", "--workers", "0", *more]


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole")
    assert main(arguments(photos, run, "finetune", *FINETUNE)) == EXIT_OK
    return run


def wait_until(condition, seconds=150.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def history(run):
    with (run / "history.csv").open() as file:
        return [{name: v for name, v in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def answers(path):
    """Logits of a checkpoint on its validation images, computed without the training code."""
    best = checkpoint.load(path)
    model = backbones.build(best.backbone, len(best.class_names)).eval()
    model.load_state_dict(best.model)
    with torch.inference_mode():
        images = [preprocess(decode_file_bytes(open(p, "rb").read()), best.input) for p in best.val_images]  # noqa: PTH123, SIM115
        truth = [best.class_names.index(p.split("/")[-2]) for p in best.val_images]
        return model(torch.from_numpy(np.stack(images))).numpy(), np.array(truth), best


def test_a_probe_separates_colours_and_reports_what_scikit_learn_computes(photos, tmp_path, capsys):
    run = tmp_path / "run"

    assert main(arguments(photos, run, "probe")) == EXIT_OK

    logits, truth, best = answers(run / "best.pt")
    val = json.loads((run / "report.json").read_text())["val"]
    assert {p.name for p in run.iterdir()} == FILES | {"embeddings.npz"}
    assert val["top1"] >= 0.8
    assert val["top1"] == pytest.approx(oracle.accuracy_score(truth, logits.argmax(1)))
    assert val["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, logits.argmax(1)))
    probabilities = torch.softmax(torch.from_numpy(logits), 1).numpy()
    assert val["loss"] == pytest.approx(oracle.log_loss(truth, probabilities, labels=[0, 1, 2]), rel=1e-3, abs=1e-4)
    assert val["confusion"] == oracle.confusion_matrix(truth, logits.argmax(1)).tolist()
    precision, recall, f1, support = oracle.precision_recall_fscore_support(truth, logits.argmax(1), zero_division=0)
    for index, name in enumerate(best.class_names):
        scores = (precision[index], recall[index], f1[index], support[index])
        assert tuple(val["per_class"][name].values()) == pytest.approx(scores)
    # the stored last layer sees raw embeddings, the probe's own figures were measured on standardised ones
    assert best.training["metrics"]["val_loss"] == pytest.approx(val["loss"], rel=1e-3, abs=1e-4)
    assert (best.training["train_images"], best.training["val_images"]) == (32, 8)
    assert best.resume is None
    assert "python -m training.export --checkpoint" in capsys.readouterr().out


def test_a_probe_continued_takes_its_features_from_the_cache(photos, tmp_path, monkeypatch):
    assert main(arguments(photos, tmp_path, "probe")) == EXIT_OK
    first = checkpoint.load(tmp_path / "best.pt").model
    monkeypatch.setattr(probe, "_embed", None)

    assert main(["--output", str(tmp_path), "--resume"]) == EXIT_OK

    assert all(torch.equal(t, first[name]) for name, t in checkpoint.load(tmp_path / "best.pt").model.items())


def test_training_from_scratch_learns_the_colours(photos, tmp_path):
    settings = ("--epochs", "4", "--augment", "crop,flip", "--test-fraction", "0.2")

    assert main(arguments(photos, tmp_path, "scratch", *settings)) == EXIT_OK

    report = json.loads((tmp_path / "report.json").read_text())
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert report["val"]["top1"] >= 0.9
    assert (report["test"]["images"], report["test"]["scored"]) == (8, False)
    assert len(history(tmp_path)) == 4
    best = max(history(tmp_path), key=lambda row: (float(row["val_metric"]), -float(row["val_loss"])))
    assert report["training"]["metrics"]["val_loss"] == pytest.approx(float(best["val_loss"]))


@pytest.mark.parametrize("where", ["training", "validating"])
def test_an_interrupted_run_continued_equals_an_uninterrupted_one(
    photos, tmp_path, monkeypatch, capsys, uninterrupted, where
):
    calls = []

    def interrupt_at(count, function):
        def wrapped(*arguments):
            calls.append(function)
            if len(calls) == count:
                os.kill(os.getpid(), signal.SIGINT)
            return function(*arguments)

        return wrapped

    if where == "training":  # in the second of the four batches of the second epoch
        monkeypatch.setattr(trainer.Trainer, "step", interrupt_at(6, trainer.Trainer.step))
    else:  # after the second epoch
        monkeypatch.setattr(trainer, "evaluate", interrupt_at(2, trainer.evaluate))
    assert main(arguments(photos, tmp_path, "finetune", *FINETUNE)) == EXIT_INTERRUPTED
    assert "--resume" in capsys.readouterr().err
    assert len(calls) == (6 if where == "training" else 2)
    assert len(history(tmp_path)) == 1
    monkeypatch.undo()
    torch.manual_seed(99)  # another process has other random numbers

    assert main(["--output", str(tmp_path), "--resume"]) == EXIT_OK

    assert history(tmp_path) == history(uninterrupted)
    for name in ("best.pt", "last.pt"):
        whole, parts = (checkpoint.load(run / name) for run in (uninterrupted, tmp_path))
        assert all(torch.equal(tensor, parts.model[key]) for key, tensor in whole.model.items())
        assert whole.training == parts.training


def test_a_killed_run_leaves_no_process_and_can_be_continued(photos, tmp_path, uninterrupted):
    argv = [*arguments(photos, tmp_path, "finetune", *FINETUNE), "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "training.train", *argv]
    run = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "last.pt").exists())

    run.kill()
    run.wait()

    def all_gone():
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(all_gone)
    assert main(["--output", str(tmp_path), "--resume", "--workers", "0"]) == EXIT_OK
    assert history(tmp_path) == history(uninterrupted)


def test_a_finished_run_continued_only_reports_again(photos, tmp_path):
    assert main(arguments(photos, tmp_path, "finetune", "--epochs", "1")) == EXIT_OK
    (tmp_path / "report.json").unlink()

    assert main(["--output", str(tmp_path), "--resume"]) == EXIT_OK

    assert (tmp_path / "report.json").exists()


def test_a_diverging_run_names_the_batch_and_leaves_the_last_checkpoint_intact(photos, tmp_path, monkeypatch, capsys):
    step, saved = trainer.Trainer.step, []

    def poisoned_step(self, batch, order):
        if self.progress.epoch == 1 and self.progress.batch == 2:
            saved.append((tmp_path / "last.pt").read_bytes())
            batch.images[0, 0, 0, 0] = math.nan
        step(self, batch, order)

    monkeypatch.setattr(trainer.Trainer, "step", poisoned_step)

    assert main(arguments(photos, tmp_path, "scratch", "--epochs", "2", "--bad-steps", "1")) == EXIT_BAD_INPUT

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "the loss is nan in epoch 2, batch 3" in line
    assert (tmp_path / "last.pt").read_bytes() == saved[0]


def test_every_refusal_is_one_line_and_exit_code_2(photos, tmp_path, capsys):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "last.pt").write_bytes(b"")
    run = tmp_path / "run"
    cases = (
        (arguments(photos, run, "probe", "--backbone", "resnet19"), "resnet19"),
        (arguments(photos, run, "probe", "--weights", str(tmp_path / "text.pth")), "text.pth"),
        (arguments(photos, run, "probe", "--weights", str(tmp_path / "gone.pth")), "gone.pth"),
        (arguments(photos / "go", run, "probe"), "no class folders"),
        (arguments(photos, tmp_path / "taken", "probe"), "holds a run already"),
        (arguments(photos, tmp_path / "text.pth", "probe"), "cannot be made"),
        (arguments(photos, UNWRITABLE, "probe"), "free or choose another --output"),
        (arguments(photos, run, "finetune", "--amp", "fp16"), "needs a GPU"),
        (arguments(photos, run, "finetune", "--lr", "-1"), "--lr"),
        (["--output", str(tmp_path / "none"), "--resume"], "no run to continue"),
        (["--data", str(photos)], "--output is missing"),
    )
    for argv, message in cases:
        assert main(argv) == EXIT_BAD_INPUT
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert message in errors[0]


def test_a_continued_run_refuses_other_settings_and_other_data(photos, tmp_path, capsys):
    data = write_folder(tmp_path / "data", {"a": 6, "b": 6})
    run = tmp_path / "run"
    assert main(arguments(data, run, "finetune", "--epochs", "1")) == EXIT_OK

    assert main(["--output", str(run), "--resume", "--momentum", "0.5"]) == EXIT_BAD_INPUT
    assert "--momentum: the run in" in capsys.readouterr().err
    intact = (data / "a" / "02.png").read_bytes()
    shutil.copy(data / "a" / "01.png", data / "a" / "02.png")  # a finding, of data that are others now
    kept = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["--output", str(run), "--resume", "--epochs", "2"]) == EXIT_BAD_INPUT
    assert "differs from what" in capsys.readouterr().err
    (data / "a" / "02.png").write_bytes(intact)
    assert main(["--output", str(run), "--resume", "--epochs", "2", "--amp", "fp16"]) == EXIT_BAD_INPUT
    assert "needs a GPU" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == kept


def network(**changes):
    config = make(data="d", output="o", input_size=(32, 40), **changes)
    torch.manual_seed(0)
    model = backbones.build("resnet18", 3)
    return model, backbones.stages(model, 32, 40), config


def test_head_then_last_stage_then_all_of_it_learns():
    config = make(data="d", output="o", epochs=6, head_epochs=2, last_stage_epochs=1)

    assert [optimise.phase(config, epoch) for epoch in range(6)] == ["head", "head", "last", "all", "all", "all"]


@pytest.mark.parametrize(("phase", "prefixes"), [("head", ("fc",)), ("last", ("fc", "layer4"))])
def test_what_is_frozen_does_not_change_by_a_step(phase, prefixes):
    model, stages, config = network(optimizer="sgd", weight_decay=0.1)
    optimizer = optimise.optimizer(model, stages, config)
    optimise.set_trainable(model, stages, phase)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 40)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == set(prefixes)


def test_rates_fall_from_the_head_downwards_and_norms_are_not_decayed():
    model, stages, config = network(lr=0.1, lr_decay_per_stage=0.2, weight_decay=0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    groups = optimise.optimizer(model, stages, config).param_groups
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}

    assert found.keys() == set(names.values())
    assert found["fc.weight"] == (0.1, 0.3)
    assert found["fc.bias"] == (0.1, 0.0)
    assert found["layer4.1.conv2.weight"] == pytest.approx((0.02, 0.3))
    assert found["layer3.0.bn1.weight"] == pytest.approx((0.004, 0.0))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("nesterov", "SGD"), ("rmsprop", "RMSprop"), ("adam", "Adam"), ("adamw", "AdamW")],
)
def test_each_optimizer_is_the_one_of_torch(name, kind):
    model, stages, config = network(optimizer=name, momentum=0.7)

    built = optimise.optimizer(model, stages, config)

    assert type(built).__name__ == kind
    assert built.defaults.get("nesterov", False) == (name == "nesterov")
    assert built.defaults.get("momentum", 0.7) == 0.7


def torch_rates(scheduler_of, epochs, losses=None):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = scheduler_of(optimizer), []
    for epoch in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([losses[epoch]] if losses else []))
    return rates


def test_schedules_are_those_of_torch():
    of_torch = torch.optim.lr_scheduler
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.8, 0.8, 0.8, 0.80001, 0.7, 0.9, 0.9]
    cases = {
        "constant": torch_rates(lambda o: of_torch.ConstantLR(o, factor=1.0), 12),
        "step": torch_rates(lambda o: of_torch.StepLR(o, step_size=5, gamma=0.3), 12),
        "cosine": torch_rates(lambda o: of_torch.CosineAnnealingLR(o, T_max=12), 12),
        "plateau": torch_rates(lambda o: of_torch.ReduceLROnPlateau(o, factor=0.3, patience=1), 12, losses),
    }
    for schedule, expected in cases.items():
        config = make(
            data="d",
            output="o",
            schedule=schedule,
            epochs=12,
            step_epochs=5,
            lr_gamma=0.3,
            patience=1,
            warmup_epochs=0.0,
        )
        rates = [optimise.lr_factor(config, epoch, losses[:epoch]) for epoch in range(12)]
        assert rates == pytest.approx(expected), schedule
    assert cases["plateau"][-1] < 0.1


def test_warm_up_rises_linearly_before_the_cosine():
    config = make(data="d", output="o", schedule="cosine", epochs=12, warmup_epochs=2.0)

    assert optimise.lr_factor(config, 0.5, []) == pytest.approx(0.25, abs=0.02)
    assert optimise.lr_factor(config, 2.0, []) == pytest.approx(1.0)
    assert optimise.lr_factor(config, 7.0, []) == pytest.approx(0.5)  # halfway from 2 to 12


@pytest.mark.parametrize("name", ["config.json", "report.html", "best.pt"])
def test_a_folder_with_files_of_others_is_not_trained_into(photos, tmp_path, capsys, name):
    (tmp_path / name).write_text('{"mine": 1}')
    assert main(arguments(photos, tmp_path, "probe")) == EXIT_BAD_INPUT
    assert f"{name}: is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'
