"""Owns: images that a network has learned from are known wherever they lie (`training.learned`), and every command that
judges by it says so.

Leaves to others: what is fitted to the images that are left (test_ensemble_file), data sets (test_load).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_images import write_folder

from cnn_perception.errors import EXIT_OK, ConfigError
from training import check, checkpoint, evaluate, export, train
from training.calibration import untouched

COUNTS = {"go": 8, "stop": 8}


def words_of(*words: object) -> list[str]:
    return [str(word) for word in words]


def trained(data: Path, output: Path, seed: int) -> Path:
    words = words_of("--data", data, "--output", output, "--seed", seed, "--backbone", "lenet5", "--mode", "scratch")
    quick = ("--epochs", 1, "--batch-size", 8, "--workers", 0, "--input-size", 32, "--device", "cpu")
    assert train.main([*words, *words_of(*quick, "--baselines", "none", "--unknown", "none")]) == EXIT_OK
    return output / "best.pt"


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A data set and the checkpoints of two runs on it, which held out other images; the set is no longer there."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("learned")
    data = write_folder(root / "signs", COUNTS)
    runs = [trained(data, root / f"run{seed}", seed) for seed in range(2)]
    shutil.move(data, root / "kept")
    return root, runs


@pytest.fixture
def gone(case, tmp_path):
    """The checkpoints, and their data set at another place than when they were trained."""
    root, runs = case
    shutil.copytree(root / "kept", tmp_path / "moved")
    return runs, tmp_path / "moved"


def resorted(moved: Path, to: Path) -> Path:
    """The same pictures in other folders, under other names, as files of another format."""
    for number, path in enumerate(sorted(moved.rglob("*.png"))):
        folder = to / ("train", "val", "test")[number % 3] / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(folder / f"frame{number:03}.bmp")
    return to


def older(path: Path, to: Path) -> Path:
    """A checkpoint as it was before it knew the pixels of its images."""
    values = torch.load(path, weights_only=True)
    del values["learned_pixels"]
    torch.save(values, to)
    return to


def scored(best: Path, data: Path, part: str, output: Path) -> dict[str, object]:
    words = words_of("--checkpoint", best, "--data", data, "--part", part, "--device", "cpu", "--output", output)
    assert evaluate.main(words) == EXIT_OK
    return json.loads((output / "report.json").read_text())


def names_learned(best: Path) -> set[str]:
    """CLASS/NAME of the training images, by their paths."""
    return {Path(*Path(path).parts[-2:]).as_posix() for path in checkpoint.load(best).train_images}


def test_a_moved_data_set_is_scored_with_a_warning(gone, tmp_path, capsys):
    (best, _), moved = gone

    report = scored(best, moved, "all", tmp_path / "out")

    count = len(names_learned(best))
    assert count == 12
    assert [*report["trained_on"].values()] == [count]
    assert f"was trained on {count} of these images" in capsys.readouterr().out


def test_training_images_in_another_part_under_other_names_are_known(gone, tmp_path, capsys):
    (best, _), moved = gone
    flat = resorted(moved, tmp_path / "flat")
    in_test = [path for number, path in enumerate(sorted(moved.rglob("*.png"))) if number % 3 == 2]
    expected = sum(Path(*path.parts[-2:]).as_posix() in names_learned(best) for path in in_test)

    report = scored(best, flat, "test", tmp_path / "out")

    assert expected > 0
    assert [*report["trained_on"].values()] == [expected]
    said = capsys.readouterr().out
    assert f"was trained on {expected} of these images" in said
    assert "though no checkpoint has learned" not in said


def test_other_pictures_at_the_old_places_are_not_taken_for_those_learned(case, gone, tmp_path, capsys):
    (best, _), _ = gone
    write_folder(case[0] / "signs", COUNTS, first_seed=500)
    try:
        report = scored(best, case[0] / "signs", "all", tmp_path / "out")
    finally:
        shutil.rmtree(case[0] / "signs")

    assert [*report["trained_on"].values()] == [0]
    assert "beware" not in capsys.readouterr().out


def test_nothing_is_calibrated_on_moved_images_that_a_member_has_learned(gone, tmp_path):
    runs, moved = gone
    free = {f"{name}/{index:02}.png" for name, count in COUNTS.items() for index in range(count)}
    free -= names_learned(runs[0]) | names_learned(runs[1])

    kept = untouched.of_data([moved], [checkpoint.load(path) for path in runs])

    assert {Path(*sample.path.parts[-2:]).as_posix() for sample in kept} == free
    assert free
    only = tmp_path / "only"
    for name in names_learned(runs[0]):
        (only / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(moved / name, only / name)
    with pytest.raises(ConfigError, match="every image of it was trained on by one of the networks"):
        untouched.of_data([only], [checkpoint.load(path) for path in runs])


def test_labels_judged_by_a_network_that_learned_copies_of_the_images_are_said_to_be(gone, capsys):
    (best, _), moved = gone

    assert check.main(words_of("--data", moved, "--labels", "--checkpoint", best, "--device", "cpu")) == EXIT_OK

    assert f"has learned from {len(names_learned(best))} of these images" in capsys.readouterr().out


def test_an_older_checkpoint_knows_its_moved_data_set_by_the_names_in_it(gone, tmp_path, capsys):
    (best, _), moved = gone
    old = older(best, tmp_path / "old.pt")

    report = scored(old, moved, "all", tmp_path / "out")

    assert [*report["trained_on"].values()] == [12]
    assert "was trained on 12 of these images" in capsys.readouterr().out


def test_what_an_older_checkpoint_cannot_tell_is_said(gone, tmp_path, capsys):
    (best, other), moved = gone
    olds = [older(path, tmp_path / name) for path, name in ((best, "a.pt"), (other, "b.pt"))]
    flat = resorted(moved, tmp_path / "flat")

    report = scored(olds[0], flat, "test", tmp_path / "out")
    words = words_of("--checkpoint", *olds, "--calibrate-on", flat, "--output", tmp_path / "m.onnx")
    said = capsys.readouterr().out
    assert export.main(words) == EXIT_OK
    of_export = capsys.readouterr().out

    assert [*report["untold"].values()] == [12]
    assert "may have been trained on more of these images: 12 images of its training are no longer where they" in said
    assert "though no checkpoint has learned" not in said
    assert "that none of the networks was trained on" not in of_export
    assert "beware: a network may have been trained on some of them: 24 images" in of_export


def test_an_older_checkpoint_knows_copies_of_images_that_lie_where_they_were(case, gone, tmp_path):
    (best, _), moved = gone
    old = older(best, tmp_path / "old.pt")
    flat = resorted(moved, tmp_path / "flat")
    saved = checkpoint.load(old)
    there = [str(moved.joinpath(*Path(path).parts[-2:])) for path in saved.train_images]
    checkpoint.save(old, dataclasses.replace(saved, train_images=tuple(there)))

    report = scored(old, flat, "all", tmp_path / "out")

    assert ([*report["trained_on"].values()], [*report["untold"].values()]) == ([12], [0])


def test_a_checkpoint_keeps_some_ten_bytes_an_image(case, tmp_path):
    saved = checkpoint.load(case[1][0])
    sizes = []
    for count in (1000, 2000):
        keys = tuple(2**63 + 7919**4 * number for number in range(count))
        checkpoint.save(tmp_path / "some.pt", dataclasses.replace(saved, learned_pixels=keys))
        assert checkpoint.load(tmp_path / "some.pt").learned_pixels == keys
        sizes.append((tmp_path / "some.pt").stat().st_size)

    assert (sizes[1] - sizes[0]) / 1000 < 13
