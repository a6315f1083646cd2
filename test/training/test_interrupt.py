"""Owns: Ctrl-C in every phase but the steps of training (test_train, test_trainer) and their waits (test_workers)."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from tiny_images import write_folder

from cnn_perception.errors import EXIT_INTERRUPTED, EXIT_OK
from training import check, checkpoint, export, train
from training.batches import cache, feature_cache
from training.calibration import embeddings, fit
from training.data import copies, scan
from training.export import exporting, network
from training.loop import batch_statistics, linear_solver, probe
from training.report import page

pytestmark = pytest.mark.usefixtures("listens_to_ctrl_c")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 12, "stop": 15, "turn": 13})


def ctrl_c_in(monkeypatch, module, name):
    """Presses Ctrl-C whenever a function begins."""
    really = getattr(module, name)

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return really(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)


def probe_arguments(photos, folder):
    words = ["--data", str(photos), "--output", str(folder), "--mode", "probe", "--backbone", "resnet18"]
    return [*words, "--weights", "none", "--input-size", "32x40", "--workers", "0", "--device", "cpu"]


def assert_told_in_one_line(capsys):
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert lines[-1].startswith("interrupted")
    assert not any("Traceback" in line or "KeyboardInterrupt" in line for line in lines)


@pytest.mark.parametrize(("module", "name"), [(scan, "read"), (copies, "candidates")], ids=["reading", "comparing"])
def test_ctrl_c_ends_a_check(module, name, photos, monkeypatch, capsys, tmp_path):
    ctrl_c_in(monkeypatch, module, name)

    assert check.main(["--data", str(photos), "--csv", str(tmp_path / "f.csv")]) == EXIT_INTERRUPTED

    assert_told_in_one_line(capsys)
    assert not list(tmp_path.iterdir())


PHASES = {
    "looking for known features": (feature_cache, "_digest"),
    "features": (probe, "predict"),
    "cross-validating": (linear_solver, "cross_validate"),
    "solving": (linear_solver, "fit_linear"),
    "calibrating": (fit, "of_run"),
    "predicting": (embeddings, "of_run"),
    "writing the page": (page, "write"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_a_probe_in_every_phase_and_the_run_can_go_on(phase, photos, monkeypatch, capsys, tmp_path):
    with monkeypatch.context() as patch:
        ctrl_c_in(patch, *PHASES[phase])
        assert train.main(probe_arguments(photos, tmp_path / "run")) == EXIT_INTERRUPTED
    assert_told_in_one_line(capsys)
    if phase in ("calibrating", "predicting", "writing the page"):
        assert checkpoint.load(tmp_path / "run" / "best.pt").train_images

    assert train.main(["--output", str(tmp_path / "run"), "--resume"]) == EXIT_OK


@pytest.mark.parametrize("name", ["estimate", "compare"])
def test_ctrl_c_ends_the_adapting_of_statistics_and_the_run_can_go_on(name, photos, monkeypatch, capsys, tmp_path):
    words = [*probe_arguments(photos, tmp_path / "run"), "--adapt-norm"]
    with monkeypatch.context() as patch:
        ctrl_c_in(patch, batch_statistics, name)
        assert train.main(words) == EXIT_INTERRUPTED
    assert_told_in_one_line(capsys)

    assert train.main(["--output", str(tmp_path / "run"), "--resume"]) == EXIT_OK


def test_ctrl_c_ends_the_decoding_before_the_first_epoch(photos, monkeypatch, capsys, tmp_path):
    words = probe_arguments(photos, tmp_path / "run")
    words[words.index("probe")] = "finetune"
    ctrl_c_in(monkeypatch, cache, "_keep")

    assert train.main([*words, "--epochs", "1", "--augment", "none"]) == EXIT_INTERRUPTED

    assert_told_in_one_line(capsys)


@pytest.mark.parametrize(("module", "name"), [(network, "restore"), (exporting, "_measured")])
def test_ctrl_c_ends_an_export_and_leaves_an_older_file_alone(module, name, photos, monkeypatch, capsys, tmp_path):
    assert train.main(probe_arguments(photos, tmp_path / "run")) == EXIT_OK
    model = tmp_path / "m.onnx"
    words = ["--checkpoint", str(tmp_path / "run" / "best.pt"), "--output", str(model), "--parity-images", "2"]
    assert export.main(words) == EXIT_OK
    before = model.read_bytes()
    ctrl_c_in(monkeypatch, module, name)
    capsys.readouterr()

    assert export.main(words) == EXIT_INTERRUPTED

    assert_told_in_one_line(capsys)
    assert model.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "m.onnx"}
