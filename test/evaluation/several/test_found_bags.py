"""Owns: which bags paths, folders and patterns mean, under which names, and which labels are theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.evaluation.labels import read_labels
from cnn_perception.evaluation.several.bag_labels import labels_of_bags
from cnn_perception.evaluation.several.sources import find_bags


def bag(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "metadata.yaml").touch()
    (path / f"{path.name}_0.mcap").touch()
    return path


@pytest.fixture
def drives(tmp_path) -> Path:
    for name in ("monday/run", "tuesday/run", "alone", ".hidden/run"):
        bag(tmp_path / "drives" / name)
    (tmp_path / "drives" / "notes").mkdir()
    (tmp_path / "drives" / "labels.csv").touch()
    return tmp_path / "drives"


def found(*given: Path) -> dict[str, Path]:
    return {source.name: source.path for source in find_bags(given).bags}


def test_a_folder_means_the_bags_in_it_at_any_depth_each_by_a_name_of_its_own(drives):
    assert found(drives) == {
        "alone": drives / "alone",
        "monday_run": drives / "monday/run",
        "tuesday_run": drives / "tuesday/run",
    }
    assert not find_bags([drives]).is_single
    assert find_bags([drives]).searched == (drives,)


def test_a_pattern_means_what_it_matches_and_says_what_is_no_bag(drives):
    whole = find_bags([drives / "*"])

    assert [source.name for source in whole.bags] == ["alone", "monday_run", "tuesday_run"]
    assert {path.name for path in whole.left_out} == {"labels.csv", "notes"}
    assert set(found(drives / "**" / "run")) == {"monday_run", "tuesday_run"}
    assert not find_bags([drives / "al*"]).is_single


def test_one_bag_is_a_single_one_also_where_its_name_looks_like_a_pattern(tmp_path):
    odd = bag(tmp_path / "run[1]*")

    assert find_bags([odd]).is_single
    assert found(odd) == {"run[1]*": odd}
    assert find_bags([tmp_path / "there is none"]).is_single


def test_a_name_that_no_file_can_have_is_kept_for_the_opening_to_refuse(tmp_path):
    named = tmp_path / ("a" * 300)
    assert [source.path for source in find_bags([named]).bags] == [named]


def test_loose_files_are_one_bag_as_before_unless_bags_lie_beside_them(tmp_path):
    (tmp_path / "split").mkdir()
    for number in range(2):
        (tmp_path / "split" / f"split_{number}.mcap").touch()
    assert find_bags([tmp_path / "split"]).is_single

    bag(tmp_path / "split" / "another")

    assert set(found(tmp_path / "split")) == {"another", "split_0", "split_1"}


@pytest.mark.parametrize("way", ["same", "relative", "link", "file", "parent"])
def test_a_bag_that_is_meant_twice_is_refused_however_it_is_written(drives, way, monkeypatch):
    one = drives / "alone"
    (drives.parent / "link").symlink_to(one)
    monkeypatch.chdir(drives)
    other = {
        "same": one,
        "relative": Path("alone"),
        "link": drives.parent / "link",
        "file": one / "alone_0.mcap",
        "parent": drives,
    }[way]

    with pytest.raises(ConfigError, match=r"--bag .* is given twice: it is .* again"):
        find_bags([one, other])
    with pytest.raises(ConfigError, match=r"--bag .* is given twice"):
        find_bags([other, one])


@pytest.mark.parametrize("pattern", ["nothing*", "lab*"])
def test_a_pattern_without_bags_is_one_line(drives, pattern):
    with pytest.raises(ConfigError, match=re.escape(f"--bag {drives / pattern}: matches ")):
        find_bags([drives / pattern])


def test_links_among_the_bags_of_a_folder_or_pattern_are_bags_once(drives):
    (drives / "monday" / "back").symlink_to(drives)
    (drives / "a latest").symlink_to(drives / "alone")
    (drives / "tuesday" / "x").symlink_to(drives / "monday")
    (drives / "monday" / "y").symlink_to(drives / "tuesday")

    assert set(found(drives)) == {"alone", "monday_run", "tuesday_run"}
    assert set(found(drives / "a*")) == {"alone"}


def test_a_link_to_a_bag_elsewhere_is_followed_under_its_own_name(drives, tmp_path):
    bag(tmp_path / "archive" / "0001")
    (drives / "rainy").symlink_to(tmp_path / "archive" / "0001")

    assert found(drives)["rainy"] == drives / "rainy"


def test_bags_of_one_name_everywhere_get_numbers_and_none_the_name_of_a_file_beside_them(tmp_path):
    names = [bag(tmp_path / name) for name in ("report.json", "a_b", "a/b", "c/b")]

    folders = list(found(*names))
    assert len({name.casefold() for name in folders}) == 4
    assert (folders[0], folders[3]) == ("report.json_1", "c_b")


def sources(*paths: Path):
    return find_bags(paths).bags


def test_labels_of_a_table_are_those_of_the_bags_that_its_rows_name(drives):
    (drives / "labels.csv").write_text("bag,start_s,end_s,class\nalone,0,1,red\nmonday/run,2,3,green\n")

    known = labels_of_bags(str(drives / "labels.csv"), sources(drives))

    assert known.unused == ()
    assert [one.truth for one in read_labels(drives / "labels.csv", drives / "alone").intervals] == ["red"]
    assert [one.truth for one in read_labels(drives / "labels.csv", drives / "monday/run").intervals] == ["green"]
    with pytest.raises(DataError, match=r"no line is of the bag .*tuesday/run"):
        read_labels(drives / "labels.csv", drives / "tuesday/run")


def test_a_name_that_fits_two_bags_or_none_is_said(drives):
    table = drives / "labels.csv"
    table.write_text("bag,start_s,end_s,class\nrun,0,1,red\n")
    with pytest.raises(ConfigError, match=r"'run' may be .*monday/run or .*tuesday/run; write more of the path"):
        labels_of_bags(str(table), sources(drives))

    table.write_text(f"bag,start_s,end_s,class\n{drives / 'alone'},0,1,red\nwednesday,0,1,red\n")

    assert labels_of_bags(str(table), sources(drives)).unused == ("wednesday",)


def test_a_table_that_does_not_say_of_which_bag_it_is_is_refused_with_both_ways_out(drives):
    (drives / "labels.csv").write_text("start_s,end_s,class\n0,1,red\n")

    with pytest.raises(ConfigError, match=r"of which of the 3 bags.*column 'bag'.*labels/\{bag\}\.csv"):
        labels_of_bags(str(drives / "labels.csv"), sources(drives))


def test_a_column_of_bags_is_known_in_any_case_and_each_row_must_name_one(drives):
    table = drives / "labels.csv"
    table.write_text("BAG,start_s,end_s,class\nalone,0,1,red\nwednesday,0,1,red\n")
    assert labels_of_bags(str(table), sources(drives)).unused == ("wednesday",)

    table.write_text("bag,start_s,end_s,class\nalone,0,1,red\n,2,3,green\n")
    with pytest.raises(DataError, match=r"line 3, column 'bag': is empty"):
        labels_of_bags(str(table), sources(drives))


def test_a_topic_is_of_all_and_a_path_names_each(drives):
    first = sources(drives)[1]

    assert labels_of_bags("/label", sources(drives)).of(first) == "/label"
    assert labels_of_bags("labels/{bag}.csv", sources(drives)).of(first) == "labels/monday_run.csv"


def test_what_a_mac_leaves_beside_a_recording_is_no_bag(tmp_path):
    folder = tmp_path / "drives"
    (folder / "__MACOSX" / "run").mkdir(parents=True)
    (folder / "run").mkdir()
    for name in ("run/run_0.mcap", "run/._run_0.mcap", "__MACOSX/run/._run_0.mcap", "__MACOSX/run/._metadata.yaml"):
        (folder / name).touch()

    assert found(folder) == {"run": folder / "run"}
