"""Owns: the command from images to a model file, ended at any place and gone on with. Leaves to others: its parts."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_images import picture, write_folder

from cnn_perception.commands import progress
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK, DataError
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, train
from training.auto import candidate, command, deployment, finish, reference, trial
from training.auto.budget import Budget, TimeUp
from training.auto.trial import Trial
from training.calibration import mirroring
from training.calibration.mirroring import MirrorTest
from training.report import page

COUNTS = {"go": 14, "stop": 15}

OWN = """
from torch import nn

MEAN, STD, INPUT_SIZE = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (20, 24)


def net(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""
pytestmark = pytest.mark.usefixtures("listens_to_ctrl_c")
SMALL = {"small CNN": "layers: conv 4 5x5 s2, relu, pool 2x2, conv 8 3x3, relu, gap, fc"}


@pytest.fixture(autouse=True, scope="module")
def _small_networks(tmp_path_factory):
    """One small network, few epochs, and no weights at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setattr(candidate, "SCRATCH", SMALL)
        patch.setattr(candidate, "usual_epochs", lambda images: 2)
        patch.setattr(page, "write", lambda *_: None)  # takes seconds, and is test_training_page's
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", COUNTS)


def words(photos, folder, *more):
    usual = ["--data", str(photos), "--output", str(folder), "--minutes", "30", "--folds", "2", "--augment", "none"]
    return [*usual, "--test-fraction", "0.2", "--device", "cpu", *more]


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    """A folder in which everything was done once."""
    folder = tmp_path_factory.mktemp("runs") / "auto"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    assert command.main(words(photos, folder)) == EXIT_OK
    signal.signal(signal.SIGINT, before)
    return folder


@pytest.fixture
def again(done, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(done, tmp_path / "auto")


def kept(folder):
    return json.loads((folder / "auto.json").read_text())


def interrupted(*_):
    raise KeyboardInterrupt


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_the_model_file_is_one_that_the_robot_loads_and_knows_the_classes(done):
    model = OnnxModel(done / "model.onnx")

    assert model.spec.class_names == ("go", "stop")
    image = preprocess(RgbImage(picture((220, 40, 40), 99)), model.spec.input)
    (outputs,) = model.run(np.ascontiguousarray(image[None]))
    assert outputs.logits.shape == (2,)


def test_the_figure_in_the_table_is_that_of_the_kept_answers(done):
    rows = {one["candidate"]: one for one in csv.DictReader((done / "auto.csv").open())}
    for folder, noted in kept(done)["tried"].items():
        right = []
        for fold in (1, 2):
            with np.load(done / "trials" / folder / f"fold{fold}" / "answers.npz") as answers:
                names = [path.split("/")[-2] for path in answers["paths"].tolist()]
                right += (answers["outputs"].argmax(1) == [["go", "stop"].index(name) for name in names]).tolist()
        assert float(rows[noted["name"]]["score"]) == pytest.approx(np.mean(right))
        assert int(rows[noted["name"]]["images"]) == len(right)


def test_validation_and_test_images_are_in_no_fold(done):
    final = checkpoint.load(done / "final" / "best.pt")
    held = set()
    for path in done.glob("trials/*/fold*/answers.npz"):
        with np.load(path) as answers:
            held |= set(answers["paths"].tolist())

    assert held == set(final.train_images)


def test_the_test_part_is_scored_once_and_at_the_end(done):
    final = kept(done)["final"]

    assert final["part"] == "test"
    assert final["images"] == 6  # a fifth of each class
    assert len((done / "final" / "test_part_scored.csv").read_text().splitlines()) == 2


def test_weights_of_the_folds_are_not_kept(done):
    assert [path.parent.parent.name for path in done.rglob("*.pt")] == [done.name, done.name]
    assert not (done / "files").exists()


def test_the_same_command_again_trains_nothing_and_says_the_same(again, photos, monkeypatch, capsys):
    monkeypatch.setattr(train, "train", lambda given: pytest.fail("trains"))
    monkeypatch.setattr(Trial, "run", lambda *_: pytest.fail("tries"))
    before = kept(again)

    # the path of the model is as it was written by the command that made it
    assert command.main(words(photos, again)) == EXIT_OK

    said = capsys.readouterr().out
    assert f"{before['chosen']['name']}: top-1 accuracy {before['final']['score']}" in said
    assert "perception_node --ros-args -p model:=" in said
    assert kept(again) == before


def forgotten(folder, *names):
    """Makes a record say nothing of what a kill left undone."""
    (folder / "auto.json").write_text(json.dumps({**kept(folder), **{name: {} for name in names}}))


@pytest.mark.parametrize("lost", ["model.onnx", "final"])
def test_a_model_file_that_a_kill_left_undone_is_made_by_the_same_command(lost, again, photos, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(progress.ProgressBar, "_next_line_s", 0.0)
    forgotten(again, "final")
    if lost == "final":
        (again / lost / "report.json").unlink()
        (again / lost / "last.pt").unlink()
    (again / "model.onnx").unlink()
    before = kept(again)

    assert command.main(words(photos, again)) == EXIT_OK

    assert kept(again)["chosen"] == before["chosen"]
    assert kept(again)["rows"] == before["rows"]
    assert OnnxModel(again / "model.onnx").spec.class_names == ("go", "stop")
    assert "img/s]" in capsys.readouterr().err or lost != "final"  # how far it is, where there is no terminal, too


def test_folds_that_a_kill_left_undone_are_all_that_is_trained_again(again, photos, monkeypatch):
    monkeypatch.setattr(reference, "measured", lambda *_: [])
    monkeypatch.setattr(finish, "trained", interrupted)
    before = kept(again)
    forgotten(again, "final", "chosen")
    for path in again.glob("trials/*/fold2"):
        (path / "report.json").unlink()
    first = {path: path.stat().st_mtime_ns for path in again.glob("trials/*/fold1/report.json")}

    assert command.main(words(photos, again)) == EXIT_INTERRUPTED

    assert first == {path: path.stat().st_mtime_ns for path in first}
    assert all((path / "report.json").is_file() for path in again.glob("trials/*/fold2"))
    assert kept(again)["chosen"]["name"] == before["chosen"]["name"]
    scores = {one["name"]: one["score"] for one in before["rows"] if one["deployable"]}
    assert {one["name"]: one["score"] for one in kept(again)["rows"]} == scores


def test_baselines_are_lines_of_the_table_that_are_never_chosen(done):
    rows = [one for one in kept(done)["rows"] if not one["deployable"]]

    assert rows[0]["name"] == "always the most frequent class"
    assert {one["images"] for one in rows} == {17}  # 29 without 6 of the test and 6 of the validation part
    assert kept(done)["chosen"]["name"] not in {one["name"] for one in rows}


def test_a_program_that_only_a_record_names_is_not_run(again, photos, capsys):
    (again / "net.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
    record = kept(again)
    record["chosen"]["settings"]["backbone"] = f"{again / 'net.py'}:net"
    (again / "auto.json").write_text(json.dumps({**record, "final": {}}))
    shutil.rmtree(again / "final")

    assert command.main(words(photos, again)) == EXIT_BAD_INPUT

    assert "the command does not name" in error_line(capsys)
    assert not (again / "net.ran").exists()


def test_a_network_of_the_users_own_is_chosen_and_exported(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CNN_PERCEPTION_MODULE", raising=False)
    monkeypatch.setattr(reference, "measured", lambda *_: [])
    (tmp_path / "net.py").write_text(OWN)
    own = ("--backbones", f"{tmp_path / 'net.py'}:net")

    assert command.main(words(photos, tmp_path / "auto", *own)) == EXIT_OK

    spec = OnnxModel(tmp_path / "auto" / "model.onnx").spec
    assert (spec.input.height, spec.input.width, spec.input.mean) == (20, 24, (0.5, 0.5, 0.5))
    (tmp_path / "net.py").write_text(f"{OWN}\n")
    assert command.main(words(photos, tmp_path / "auto", *own)) == EXIT_BAD_INPUT
    assert "the file of a network: " in error_line(capsys)


@pytest.mark.parametrize("is_harmful", [False, True])
def test_whether_images_are_mirrored_is_settled_by_the_folds(is_harmful, photos, tmp_path, monkeypatch):
    """The images held out for the end do not decide on it once more."""
    found = MirrorTest(40, 40, 0, 40, 0) if is_harmful else MirrorTest(40, 40, 40, 0, 0)
    monkeypatch.setattr(mirroring, "measure", lambda run: found if "fold1" in run.config.output else None)
    monkeypatch.setattr(reference, "measured", lambda *_: [])
    monkeypatch.setattr(finish, "trained", interrupted)
    monkeypatch.setattr(candidate, "variants", lambda *_: ("light",))
    given = words(photos, tmp_path)
    del given[given.index("--augment") : given.index("--augment") + 2]

    assert command.main(given) == EXIT_INTERRUPTED

    usual = ["color", "crop"] if is_harmful else ["color", "crop", "flip"]
    assert kept(tmp_path)["chosen"]["settings"]["augment"] == usual
    folds = [json.loads(path.read_text()) for path in tmp_path.glob("trials/*/fold2/config.json")]
    assert [sorted(one["augment"]) for one in folds] == [usual]


@pytest.mark.parametrize("change", [{"identity": []}, {"rows": None}, {"more": 1}, {"tried": "x"}])
def test_a_record_that_is_none_of_ours_is_refused_in_a_line(change, again, photos, capsys):
    (again / "auto.json").write_text(json.dumps({**kept(again), **change}))

    assert command.main(words(photos, again)) == EXIT_BAD_INPUT
    assert "not as this version writes it" in error_line(capsys)


def test_a_figure_of_the_float_network_is_not_said_to_be_the_files(done, photos, capsys):
    """What was held out decides whether 8 bits lose too much, and the figure beside it is the network's."""
    searched = SimpleNamespace(whole=SimpleNamespace(task="multiclass"), budget=Budget(60.0, 0.0))
    left = finish.Deployed(1.0, "0.900", "val", 6, None, "")

    command._summarise(command._asked(words(photos, done, "--precision", "int8")), searched, "net", left)

    said = capsys.readouterr().out
    assert "by which nothing but the precision was chosen" in said
    assert "the network's in fp32" in said


def test_another_setting_is_refused_and_another_time_is_not(again, photos, capsys):
    assert command.main(words(photos, again, "--seed", "3")) == EXIT_BAD_INPUT
    assert "--seed: " in error_line(capsys)
    assert command.main(words(photos, again, "--minutes", "20", "--max-latency-ms", "1e6")) == EXIT_OK
    assert "chosen within" not in capsys.readouterr().out


def test_more_minutes_after_the_choice_are_said_to_change_nothing(again, photos, monkeypatch, capsys):
    monkeypatch.setattr(Trial, "run", lambda *_: pytest.fail("tries"))

    assert command.main(words(photos, again, "--minutes", "60")) == EXIT_OK

    said = "it was chosen within 30 minutes already, and more change nothing: another --output chooses anew"
    assert said in capsys.readouterr().out


def test_other_images_are_refused(again, photos, tmp_path, capsys):
    other = shutil.copytree(photos, tmp_path / "signs")
    (other / "go" / "00.png").write_bytes((other / "go" / "01.png").read_bytes())
    record = kept(again)
    record["identity"]["data"] = [str(other)]
    (again / "auto.json").write_text(json.dumps(record))

    assert command.main(words(other, again)) == EXIT_BAD_INPUT
    assert "differs from what" in error_line(capsys)


@pytest.mark.parametrize("name", ["model.onnx", "final/notes.txt"])
def test_files_of_somebody_else_are_left_alone(name, photos, tmp_path, capsys):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")

    assert command.main(words(photos, tmp_path)) == EXIT_BAD_INPUT
    assert "is there already" in error_line(capsys)
    assert path.read_text() == "mine"


def test_results_among_the_images_are_refused(photos, capsys):
    assert command.main(words(photos, photos / "run")) == EXIT_BAD_INPUT
    assert "choose another output" in error_line(capsys)
    assert not (photos / "run").exists()


def fast(monkeypatch, milliseconds=5.0):
    """Makes model files in no time, each of so many milliseconds."""

    def model_file(one, given, data, precision, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)

    monkeypatch.setattr(deployment, "model_file", model_file)
    monkeypatch.setattr(deployment, "latencies_ms", lambda paths: dict.fromkeys(paths, milliseconds))


def test_time_for_no_model_is_said_with_the_least(photos, tmp_path, monkeypatch, capsys):
    fast(monkeypatch)

    assert command.main(words(photos, tmp_path, "--minutes", "0.01")) == EXIT_BAD_INPUT

    assert "--minutes 0.01: too short; the least for this data set here is about 0." in error_line(capsys)
    assert not (tmp_path / "model.onnx").exists()


def test_a_script_is_told_why_no_network_was_taken(photos, tmp_path, capsys):
    limit = ("--max-latency-ms", "1e-6", "--json")

    assert command.main(words(photos, tmp_path / "auto", *limit)) == EXIT_BELOW_TARGET

    told = json.loads(capsys.readouterr().out)
    assert "no network takes at most 1e-06 ms here; the nearest is small CNN" in told["error"]
    assert told["result"]["tried"] == {}


def test_ctrl_c_keeps_the_table_and_says_how_to_go_on(photos, tmp_path, monkeypatch, capsys):
    fast(monkeypatch)
    really = Trial.run
    begun = []

    def pressed(self, number, epochs, settled):
        begun.append(number)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return really(self, number, epochs, settled)

    monkeypatch.setattr(Trial, "run", pressed)

    assert command.main(words(photos, tmp_path)) == EXIT_INTERRUPTED

    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("interrupted; the table so far is kept; go on with python -m training.auto --data")
    (row,) = csv.DictReader((tmp_path / "auto.csv").open())
    assert float(row["score"]) >= 0


def test_a_training_for_which_there_was_no_time_is_exported_as_far_as_it_came(photos, tmp_path):
    settings = {
        "data": (str(photos),), "mode": "scratch", "backbone": SMALL["small CNN"], "input_size": (32, 32),
        "select": "last", "epochs": 100_000, "workers": 0, "device": "cpu", "augment": (), "cache_gb": 0.0,
    }  # fmt: skip

    epochs = finish.trained(tmp_path, settings, 3.0)

    assert epochs is not None
    assert 0 < epochs < 100_000
    assert json.loads((tmp_path / "final" / "report.json").read_text())["epochs"] == epochs
    assert finish.exported(tmp_path, "fp32") == ""


def test_a_first_epoch_that_takes_longer_than_planned_is_waited_for(tmp_path, monkeypatch, capsys):
    begun = []

    def slow(run, _settings):
        begun.append(run)
        if len(begun) < 3:
            raise TimeUp
        run.mkdir()
        (run / "report.json").write_text('{"epochs": 9, "config": {"epochs": 9, "mode": "scratch"}}')

    monkeypatch.setattr(finish, "_train", slow)

    assert finish.trained(tmp_path, {}, -3.0) is None
    assert len(begun) == 3
    assert "it goes on beyond its time, for a model" in capsys.readouterr().out


def test_a_training_that_never_reaches_its_first_epoch_is_an_error_in_a_line(tmp_path, monkeypatch):
    def never(*_):
        raise TimeUp

    monkeypatch.setattr(finish, "_train", never)

    with pytest.raises(DataError, match="before its first epoch was over; the same command goes on"):
        finish.trained(tmp_path, {}, 1.0)


def test_shorter_trainings_keep_their_phases_within_the_epochs():
    given = {"epochs": 4, "last_stage_epochs": 4, "head_epochs": 0}

    assert trial.within(given, 2) == {"epochs": 2, "last_stage_epochs": 2, "head_epochs": 0}
    assert trial.within({"epochs": 30}, 8) == {"epochs": 8}
