"""Owns: which recordings a command line means, and what each is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.evaluation.several.sources import find_bags
from cnn_perception.image.messages import AS_SENT
from training.collect.sources.bag_frames import camera_of
from training.collect.sources.finding import expanded, find, recordings


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*bags: Path) -> list[str]:
    return [source.bag for source in find(bags, (), (), (), AS_SENT)]


def test_folder_means_all_recordings_in_it_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "metadata.yaml", tmp_path / "a" / "a_0.mcap", tmp_path / "day" / "b" / "metadata.yaml")
    touch(tmp_path / "c.db3", tmp_path / "d.mcap", tmp_path / ".hidden" / "metadata.yaml", tmp_path / "notes.txt")

    found = [path.relative_to(tmp_path).as_posix() for path in recordings(tmp_path)]
    assert sorted(found) == ["a", "c.db3", "d.mcap", "day/b"]


def test_numbered_files_without_metadata_are_one_recording(tmp_path: Path) -> None:
    touch(tmp_path / "drive" / "drive_0.mcap", tmp_path / "drive" / "drive_1.mcap")

    assert recordings(tmp_path / "drive") == [tmp_path / "drive"]


def test_pattern_that_a_shell_has_left_means_what_fits(tmp_path: Path) -> None:
    for day in ("day1", "day2", "night"):
        touch(tmp_path / day / "metadata.yaml")

    assert expanded(tmp_path / "day*") == [tmp_path / "day1", tmp_path / "day2"]
    touch(tmp_path / "odd[1]" / "metadata.yaml")
    assert expanded(tmp_path / "odd[1]") == [tmp_path / "odd[1]"]
    with pytest.raises(DataError, match="no file or folder has such a name"):
        expanded(tmp_path / "week*")


def test_each_recording_is_meant_once(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "metadata.yaml")
    (tmp_path / "link").symlink_to(tmp_path / "a")

    assert names(tmp_path / "a", tmp_path, tmp_path / "link") == ["a"]


def test_names_are_those_of_folders_as_far_as_they_differ(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "mon" / "drive", tmp_path / "y" / "mon" / "drive", tmp_path / "tue" / "drive"]
    touch(*(path / "metadata.yaml" for path in paths), tmp_path / "other.mcap")

    assert names(*paths, tmp_path / "other.mcap") == ["x_mon_drive", "y_mon_drive", "tue_drive", "other"]


@pytest.mark.parametrize(
    ("topic", "camera"),
    [
        ("/front/image_raw", "front"),
        ("/front/image_raw/compressed", "front"),
        ("/robot/front/image", "robot/front"),
        ("/image", "image"),
        ("image_raw/compressed", "image_raw"),
    ],
)
def test_camera_is_named_by_its_topic(topic: str, camera: str) -> None:
    assert camera_of(topic) == camera


def test_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no recording in it"):
        recordings(tmp_path)


def test_recordings_of_other_names_without_metadata_are_one_each(tmp_path: Path) -> None:
    touch(tmp_path / "monday.mcap", tmp_path / "tuesday.mcap", tmp_path / "wednesday_0.mcap")

    assert [path.stem for path in recordings(tmp_path)] == ["monday", "tuesday", "wednesday_0"]


def test_no_recording_is_left_out_beside_numbered_files(tmp_path: Path) -> None:
    touch(tmp_path / "drive_0.mcap", tmp_path / "drive_1.mcap", tmp_path / "other" / "metadata.yaml")

    assert [path.name for path in recordings(tmp_path)] == ["drive_0.mcap", "drive_1.mcap", "other"]


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x" / "metadata.yaml", tmp_path / "b" / "y" / "metadata.yaml")
    for folder, target in (("a", "b"), ("b", "a"), ("a", ".")):
        (tmp_path / folder / f"to {target}").symlink_to(tmp_path / target)

    assert [path.name for path in recordings(tmp_path)] == ["x", "y"]


def test_pattern_leaves_out_what_is_no_recording(tmp_path: Path) -> None:
    touch(tmp_path / "drive" / "metadata.yaml", tmp_path / "labels.csv", tmp_path / "notes" / "a.txt")

    assert recordings(tmp_path / "*") == [tmp_path / "drive"]
    with pytest.raises(ConfigError, match="which is no bag"):
        recordings(tmp_path / "lab*")


def test_evaluation_means_the_same_recordings_below_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "day" / "a" / "metadata.yaml", tmp_path / "split" / "s_0.mcap", tmp_path / "split" / "s_1.mcap")
    touch(tmp_path / "loose" / "c.mcap", tmp_path / "loose" / "d.db3", tmp_path / "e.mcap")

    ours = recordings(tmp_path)

    assert ours == [source.path for source in find_bags([tmp_path]).bags]
    assert [path.name for path in ours] == ["e.mcap", "a", "c.mcap", "d.db3", "split"]
