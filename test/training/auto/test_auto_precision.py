"""Owns: another precision than float32: timed, answered and left in it, or said not to be. Leaves to others: files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import write_folder
from tiny_run import tiny_run

from cnn_perception.errors import EXIT_BELOW_TARGET, EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel
from training import checkpoint, export
from training.auto import candidate, command, deployment
from training.export import answering
from training.graphs import certificate
from training.graphs.parity import prepared_image
from training.graphs.quantise import MAX_ACCURACY_LOSS, AccuracyError, Reduction
from training.loop import trainer
from training.networks import build
from training.report import page

pytestmark = pytest.mark.usefixtures("listens_to_ctrl_c")
NETWORK = "layers: conv 8 3x3 s2 p1, relu, conv 16 3x3 s2 p1, relu, gap, fc"
WIDE = "layers: conv 9 3x3 s2 p1, relu, conv 16 3x3 s2 p1, relu, gap, fc"


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(candidate, "usual_epochs", lambda _: 2)
    monkeypatch.setattr(page, "write", lambda *_: None)  # takes seconds, and is test_training_page's
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 14, "stop": 15})


def words(photos, folder, *more):
    usual = ["--data", str(photos), "--output", str(folder), "--minutes", "30", "--folds", "2", "--augment", "none"]
    own = ["--device", "cpu", "--input-size", "32x32", "--precision", "int8", "--backbones", NETWORK]
    return [*usual, *own, *more]


def row_of(folder, name=NETWORK):
    with (folder / "auto.csv").open() as file:
        return next(one for one in csv.DictReader(file) if one["candidate"] == f"{candidate.label(name)}, light")


def test_a_folds_answers_are_those_of_the_file_that_export_writes(photos, tmp_path):
    run = tiny_run(photos, tmp_path / "run", backbone=NETWORK, epochs=2, dropout=None)
    trainer.fit(run, None)
    best = tmp_path / "run" / "best.pt"
    samples = run.data.part("val")

    found = answering.answers(best, samples, Reduction("int8", max_loss=1.0), is_settled=True)

    asked = ["--checkpoint", str(best), "--output", str(tmp_path / "m.onnx"), "--int8", "--max-accuracy-loss", "1"]
    assert export.main([*asked, "--tolerance", "1e9"]) == EXIT_OK
    images = np.stack([prepared_image(one.path, run.config.input, "validation") for one in samples])
    expected = np.stack([output.logits for output in OnnxModel(tmp_path / "m.onnx").run(images)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with torch.no_grad():
        assert (
            np.abs(build.restore(checkpoint.load(best)).eval()(torch.from_numpy(images)).numpy() - found).max() > 1e-4
        )
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"best.pt"}
    assert not (tmp_path / "run" / "reduced.onnx").exists()


def test_table_and_file_are_of_the_precision_that_is_asked_for(photos, tmp_path, monkeypatch, capsys):
    asked = []
    really = answering.answers

    def noted(best, samples, reduction, *, is_settled):
        asked.append((is_settled, reduction.max_loss))
        return really(best, samples, Reduction("int8", max_loss=1.0), is_settled=True)

    monkeypatch.setattr(answering, "answers", noted)

    assert command.main(words(photos, tmp_path / "auto")) == EXIT_OK, capsys.readouterr().err

    assert asked == [(False, MAX_ACCURACY_LOSS), (True, 1.0)]  # the first fold decides, the other goes by it
    assert row_of(tmp_path / "auto")["precision"] == "int8"
    assert OnnxModel(tmp_path / "auto" / "model.onnx").spec.precision.precision == "int8"


def test_a_network_whose_file_misses_its_certificate_goes_on_in_fp32_and_that_is_said(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(certificate.TOLERANCES, "int8", dict.fromkeys(certificate.TOLERANCES["int8"], 1e-9))
    folder = tmp_path / "auto"

    assert command.main(words(photos, folder)) == EXIT_BELOW_TARGET

    said = capsys.readouterr().out
    assert "it goes on in fp32: " in said
    assert "not in int8: " in said
    row = row_of(folder)
    assert row["precision"] == "fp32"
    model = folder / "model.onnx"
    assert OnnxModel(model).spec.precision.precision == "fp32"
    assert float(row["size_mb"]) * 1e6 == pytest.approx(model.stat().st_size, rel=0.1)
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("trials/*/fold*/report.json"))]
    assert [bool(one["missed"]) for one in reports] == [True, False]


def timed(monkeypatch, of_fp32):
    """Makes model files in no time, of which those in fp32 take so many milliseconds, and the others 1."""

    def model_file(one, _given, _data, precision, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(precision.encode())

    def latencies_ms(paths):
        return {name: of_fp32 if path.read_bytes() == b"fp32" else 1.0 for name, path in paths.items()}

    monkeypatch.setattr(deployment, "model_file", model_file)
    monkeypatch.setattr(deployment, "latencies_ms", latencies_ms)


def test_a_network_that_is_too_slow_in_fp32_is_not_taken_instead(photos, tmp_path, monkeypatch, capsys):
    timed(monkeypatch, 9.0)

    def missed(best, *_given, **_how):
        raise AccuracyError("too much is lost")

    monkeypatch.setattr(answering, "answers", missed)

    assert command.main(words(photos, tmp_path / "auto", "--max-latency-ms", "5")) == EXIT_BELOW_TARGET

    assert row_of(tmp_path / "auto")["ended"] == "slower than 5 ms in fp32, and too much is lost"
    assert "the nearest is layers" in capsys.readouterr().err
    assert not (tmp_path / "auto" / "model.onnx").exists()


def test_one_network_may_lose_too_much_and_the_others_not(photos, tmp_path, monkeypatch):
    timed(monkeypatch, 9.0)
    monkeypatch.setattr("training.auto.finish.trained", lambda *_: pytest.fail("the search is over"))
    zeros = np.zeros

    def answers(best: Path, samples, _reduction, *, is_settled):
        if "conv-9" in str(best):
            raise AccuracyError("too much is lost")
        return zeros((len(samples), 2), np.float32)

    monkeypatch.setattr(answering, "answers", answers)
    with pytest.raises(BaseException, match="the search is over"):
        command.main([*words(photos, tmp_path / "auto"), WIDE])

    assert (row_of(tmp_path / "auto")["precision"], row_of(tmp_path / "auto")["latency_ms"]) == ("int8", "1.0")
    assert (row_of(tmp_path / "auto", WIDE)["precision"], row_of(tmp_path / "auto", WIDE)["latency_ms"]) == (
        "fp32",
        "9.0",
    )
