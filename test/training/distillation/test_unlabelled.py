"""Owns: frames without labels: found, kept apart from what is held out, learned from, and what is said of the figures.

Leaves to others: what a teacher is shown (test_distillation), how recordings are read (test_collect_bags).
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bag import START_NS, compressed, raw, write_bag
from tiny_images import scene, write_folder
from tiny_run import command_line, same, tiny_run, weights, write_photos

from cnn_perception import errors
from cnn_perception.image.messages import read_image
from training import checkpoint, export, train
from training.collect import unlabelled as sources
from training.config import make
from training.data.records import UNLABELLED
from training.distillation import unlabelled
from training.distillation.teachers import Teachers
from training.distillation.unlabelled import Frame
from training.graphs.parity import prepared_image
from training.loop import trainer
from training.loop.run import open_run
from training.networks import build

BODY = "layers: conv 12 3x3 s2 p1, relu, conv 16 3x3 s2 p1, relu, gap, fc"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "signs")


@pytest.fixture(scope="module")
def teacher(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    trainer.fit(tiny_run(photos, folder, backbone=BODY, dropout=None, epochs=8, lr=1e-2, input_size=(48, 60)), None)
    return folder / "best.pt"


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """Images beside each other, without labels."""
    folder = tmp_path_factory.mktemp("loose")
    made = write_folder(folder / "made", {"go": 12, "stop": 12, "turn": 12}, first_seed=50_000)
    for path in made.rglob("*.png"):
        shutil.copy(path, folder / f"{path.parent.name}_{path.name}")
    shutil.rmtree(made)
    return folder


def words(folder, **changes):
    given = command_line(folder, folder / "run", **{"backbone": BODY, "epochs": 6, "lr": 1e-2, **changes})
    place = given.index("--dropout")
    return [*given[2:place], *given[place + 2 :]]  # without --data, and for a head that drops nothing


def test_frames_beside_labels_are_learned_from_and_counted_nowhere_among_the_labelled(photos, loose, tmp_path):
    frames = [Frame(path) for path in sorted(loose.glob("*.png"))]
    plain = tiny_run(photos, tmp_path / "plain")

    data = unlabelled.beside(plain.data, frames)

    assert data.samples == plain.data.samples
    assert data.sha256 == plain.data.sha256
    assert {sample.label for sample in data.unlabelled} == {UNLABELLED}
    assert data.lessons == (*data.part("train"), *data.unlabelled)
    assert len(data.unlabelled) == len(frames)


def test_what_looks_like_a_held_out_image_or_is_there_twice_or_damaged_is_left_out(photos, loose, tmp_path):
    plain = tiny_run(photos, tmp_path / "plain")
    held_out = plain.data.part("val")[0].path
    Image.open(held_out).save(tmp_path / "again.png", compress_level=1)
    (tmp_path / "bad.png").write_bytes(b"no image")
    one = sorted(loose.glob("*.png"))[0]
    shutil.copy(one, tmp_path / "twice.png")
    frames = [Frame(path) for path in (one, tmp_path / "again.png", tmp_path / "bad.png", tmp_path / "twice.png")]

    data = unlabelled.beside(plain.data, frames)

    assert [sample.path for sample in data.unlabelled] == [one]
    assert any("look like one that is held out" in line for line in data.warnings)
    with pytest.raises(errors.DataError, match="none of the frames"):
        unlabelled.beside(plain.data, frames[1:2])


def test_a_run_with_and_without_labels_ends_with_a_network_that_answers_as_its_teacher(
    photos, loose, teacher, tmp_path, capsys
):
    given = [*words(tmp_path), "--data", str(photos), "--teacher", str(teacher), "--unlabelled", str(loose)]
    assert train.main([*given, "--epochs", "2", "--baselines", "none"]) == errors.EXIT_OK
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert 0 <= report["val"]["top1"] <= 1
    assert "36 images without labels are trained on" in capsys.readouterr().out
    learned = checkpoint.load(tmp_path / "run" / "best.pt")
    assert {*learned.unlabelled_images} == {str(path) for path in loose.glob("*.png")}

    output = tmp_path / "alone"
    given = [*words(output), "--teacher", str(teacher), "--data", str(loose)]
    assert train.main(given) == errors.EXIT_OK

    told = capsys.readouterr().out
    report = json.loads((output / "run" / "report.json").read_text())
    assert "not accuracy" in told
    assert report["agreement"]["value"] > 0.8
    assert report["agreement"]["images"] == 7
    assert "accuracy" not in told.replace("not accuracy", "")
    assert "val" not in report
    saved = checkpoint.load(output / "run" / "best.pt")
    assert saved.class_names == checkpoint.load(teacher).class_names
    assert saved.training["metrics"].keys() == {"agreement_top1", "agreement_top5", "agreement_loss"}
    assert "agreement_top1" in (output / "run" / "history.csv").read_text()
    assert saved.calibration.unknown is None
    assert export.main(["--checkpoint", str(output / "run" / "best.pt"), "--output", str(output / "m.onnx")]) == 0


def test_the_labels_of_a_run_without_any_are_what_its_teacher_answers(photos, loose, teacher, tmp_path):
    frames = [Frame(path) for path in sorted(loose.glob("*.png"))]
    config = make(teacher=str(teacher), unlabelled=str(loose), output=str(tmp_path), backbone="lenet5", mode="scratch")
    saved = checkpoint.load(teacher)
    cpu = torch.device("cpu")
    data = unlabelled.alone(frames, Teachers(config.teacher, config.input, cpu, channels_last=False), config, cpu)
    network = build.restore(saved).eval()
    with torch.no_grad():
        images = np.stack([prepared_image(sample.path, saved.input, "validation") for sample in data.samples])
        expected = network(torch.from_numpy(images)).argmax(1).tolist()

    assert [sample.label for sample in data.samples] == expected
    assert data.labelled_by == str(teacher)


def test_of_a_recording_the_end_is_held_out(loose, teacher, tmp_path):
    frames = [Frame(path, "drive") for path in sorted(loose.glob("*.png"))]
    config = make(teacher=str(teacher), unlabelled=str(loose), output=str(tmp_path), backbone="lenet5", mode="scratch")

    parts = unlabelled._parts(unlabelled._usable(frames), config)

    assert parts == ["train"] * 29 + ["val"] * 7


def test_a_run_with_frames_goes_on_as_if_it_had_never_stopped(photos, loose, teacher, tmp_path):
    frames = [Frame(path) for path in sorted(loose.glob("*.png"))]

    def run(folder, **changes):
        torch.set_num_threads(1)
        settings = {"backbone": BODY, "mode": "scratch", "input_size": (32, 40), "batch_size": 8, "workers": 0}
        settings |= {"device": "cpu", "augment": (), "cache_gb": 0.0, "lr": 1e-2, "warmup_epochs": 0.0, "ema": 0.9}
        config = make(
            data=str(photos), output=str(folder), teacher=str(teacher), unlabelled=str(loose), mixup=0.5,
            schedule="constant", **settings, **changes,
        )  # fmt: skip
        return open_run(config, frames)

    whole = run(tmp_path / "whole", epochs=2)
    trainer.fit(whole, None)
    trainer.fit(run(tmp_path / "parts", epochs=1), None)
    again = run(tmp_path / "parts", epochs=2, resume=True)
    trainer.fit(again, again.last())

    assert same(weights(tmp_path / "whole" / "last.pt"), weights(tmp_path / "parts" / "last.pt"))
    frames.pop()
    with pytest.raises(errors.DataError, match="--unlabelled: differs"):
        run(tmp_path / "parts", epochs=3, resume=True)


def test_labelled_folders_are_told_from_those_without_labels(photos, loose, tmp_path):
    (tmp_path / "set").mkdir()
    shutil.copy(sorted(loose.glob("*.png"))[0], tmp_path / "set" / "a.png")
    (tmp_path / "set" / "labels.csv").write_text("path,class,state\na.png,,\n")
    given = {"teacher": ["t.pt"], "data": [str(photos), str(loose), str(tmp_path / "set")]}

    found = sources.told_apart(given)

    assert found["data"] == (str(photos),)
    assert found["unlabelled"] == (str(loose), str(tmp_path / "set"))
    assert sources.told_apart({"data": [str(loose)]}) == {"data": [str(loose)]}


def asked(folder, *paths, **changes):
    given = {"teacher": "t.pt", "backbone": "lenet5", "mode": "scratch", **changes}
    return make(unlabelled=[str(path) for path in paths], output=str(folder), **given)


def test_frames_are_taken_evenly_up_to_the_most_from_all_that_is_named(loose, tmp_path):
    found = sources.frames_of(asked(tmp_path, loose, unlabelled_images=5))

    assert [frame.path.name for frame in found] == [sorted(loose.glob("*.png"))[row].name for row in (0, 9, 18, 26, 35)]


def test_the_frames_of_a_recording_are_written_as_they_came_into_the_folder_of_the_run(tmp_path):
    shown = [scene(seed, 30, 40) for seed in range(6)]
    messages = [("/front/image_raw", START_NS + k, raw(pixels, START_NS + k)) for k, pixels in enumerate(shown)]
    messages.append(("/rear/image_raw/compressed", START_NS + 9, compressed(scene(9, 30, 40), START_NS + 9)))
    bag = write_bag(tmp_path / "drive", messages)
    assert sources.holds_no_labels(bag)

    found = sources.frames_of(asked(tmp_path / "run", bag))

    assert [frame.path.suffix for frame in found] == [".png"] * 6 + [".jpg"]
    for frame, pixels in zip(found[:6], shown, strict=True):
        np.testing.assert_array_equal(read_image(frame.path), pixels)
        assert frame.path.is_relative_to(tmp_path / "run" / "frames")
    assert len({frame.recording for frame in found}) == 2
    assert sources.frames_of(asked(tmp_path / "run", bag)) == found


def test_recordings_that_are_called_alike_and_begin_at_the_same_stamp_are_kept_apart(tmp_path):
    shown = [scene(seed, 30, 40) for seed in range(2)]
    bags = []
    for day, pixels in zip(("monday", "tuesday"), shown, strict=True):
        (tmp_path / day / "robot").mkdir(parents=True)
        bags.append(write_bag(tmp_path / day / "robot" / "drive", [("/front/image_raw", 0, raw(pixels, 0))]))

    found = sources.frames_of(asked(tmp_path / "run", *bags))

    assert len({frame.recording for frame in found}) == 2
    for frame, pixels in zip(found, shown, strict=True):
        np.testing.assert_array_equal(read_image(frame.path), pixels)


def test_what_cannot_be_is_refused_in_a_line(photos, loose, teacher, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    cases = {
        "without a --teacher": ["--data", str(photos), "--unlabelled", str(loose)],
        "holds no image": ["--teacher", str(teacher), "--unlabelled", str(tmp_path / "nothing")],
        "which is read": ["--teacher", str(teacher), "--unlabelled", str(tmp_path)],
        "--folds": ["--teacher", str(teacher), "--unlabelled", str(loose), "--folds", "3"],
    }
    for message, given in cases.items():
        assert train.main([*words(tmp_path / "o"), *given]) == errors.EXIT_BAD_INPUT
        told = capsys.readouterr().err
        assert message in told
        assert told.strip().count("\n") == 0
