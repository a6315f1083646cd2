"""Owns: damage, interruption, a full disk and wrong options: what is whole afterwards, and what is said."""

from __future__ import annotations

import csv
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from PIL import Image
from scenes import scene, scenes, stamps
from tiny_bag import CAMERA, START_NS, McapWriter, payload, write_bag

from cnn_perception import files
from training.collect import collecting, command
from training.collect import survey as survey_module
from training.collect.description import Describer
from training.collect.set_folder import SetWriter
from training.data_set.table import DataSetTable
from training.label.answers import OneClass
from training.label.session import Decision, Session
from training.label.worklist import Worklist


def test_damaged_recording_gives_its_readable_frames_and_exit_code_2(tmp_path: Path, collect, capsys) -> None:
    times = [START_NS + n * 10**8 for n in range(12)]
    messages = [(1, time_ns, payload(tiny_bag.raw(scene(n), time_ns))) for n, time_ns in enumerate(times)]
    writer = McapWriter([CAMERA], messages, per_chunk=2)
    whole = writer.write(tmp_path / "drive.mcap").read_bytes()
    (tmp_path / "drive.mcap").write_bytes(whole[: writer.ends[7] + 40])
    code, rows = collect("--bag", tmp_path / "drive.mcap", "--val-fraction", 0)

    assert code == 2
    assert stamps(rows) == list(range(8))
    assert "error: " in capsys.readouterr().err


def test_recording_that_cannot_be_read_costs_itself_only(tmp_path: Path, collect, capsys) -> None:
    good = scenes(tmp_path / "good", range(4))
    (tmp_path / "broken.mcap").write_bytes(b"nothing of the kind")
    code, rows = collect("--bag", tmp_path / "broken.mcap", good)

    assert code == 2
    assert len(rows) == 4
    assert "broken.mcap" in capsys.readouterr().err


def test_frames_that_cannot_be_decoded_are_counted(tmp_path: Path, collect, capsys) -> None:
    bad = tiny_bag.compressed(scene(1), START_NS + 5)
    bad.data = bad.data[:200]
    bag = write_bag(tmp_path / "d", [("/i", START_NS, tiny_bag.compressed(scene(0), START_NS)), ("/i", START_NS, bad)])
    code, rows = collect("--bag", bag)

    assert (code, len(rows)) == (0, 1)
    assert "2 read, of which could not be used: 1 corrupt" in capsys.readouterr().out


def interrupt_after(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, count: int) -> None:
    """Has Ctrl-C come at the call of that number of a function."""
    calls = iter(range(count))
    original = getattr(owner, name)

    def call(*words: object, **named: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*words, **named)

    monkeypatch.setattr(owner, name, call)


def test_interrupted_reading_leaves_what_was_chosen_of_the_frames_read(
    tmp_path: Path, output: Path, collect, capsys, monkeypatch
) -> None:
    interrupt_after(monkeypatch, survey_module, "_add", 7)
    code, rows = collect("--bag", scenes(tmp_path / "drive", range(20)), "--budget", 5)

    assert code == 130
    assert len(rows) == 5
    assert max(stamps(rows)) < 7
    assert all((output / row["path"]).is_file() for row in rows)
    assert "interrupted" in capsys.readouterr().out


def test_interrupted_writing_leaves_a_row_for_each_image(tmp_path: Path, output: Path, collect, monkeypatch) -> None:
    interrupt_after(monkeypatch, SetWriter, "add", 3)
    code, rows = collect("--bag", scenes(tmp_path / "drive", range(20)))

    assert code == 130
    assert {row["path"] for row in rows} == {str(p.relative_to(output)) for p in output.rglob("*.png")}
    assert len(rows) == 3


def test_kill_while_images_are_written_leaves_the_table_and_the_next_run_completes_it(
    tmp_path: Path, output: Path, collect, monkeypatch
) -> None:
    bag = scenes(tmp_path / "drive", range(8))
    _, before = collect("--bag", bag, "--budget", 3)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(SetWriter, "save", killed)
        with pytest.raises(Killed):
            collect("--bag", bag)
    _, rows = collect("--bag", bag)

    assert rows[:3] == before
    assert {row["path"] for row in rows} == {str(p.relative_to(output)) for p in output.rglob("*.png")}
    assert sorted(stamps(rows)) == [n for n in range(8) if n in stamps(rows)]


class Killed(BaseException):
    """What a kill does to a program: nothing of it goes on."""


def killed_at(monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """Has a kill come at the write of that number, from 0."""
    left = iter(range(write))
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            raise Killed
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)


def test_kill_at_any_write_leaves_a_whole_table_with_its_labels_and_the_next_run_completes_it(
    tmp_path: Path, monkeypatch
) -> None:
    first = scenes(tmp_path / "first", [10])
    bag = scenes(tmp_path / "drive", range(3))
    (tmp_path / "classes.txt").write_text("ant\n")
    ended = 0
    for write in range(10):
        output = tmp_path / f"set {write}"
        words = ["--output", str(output), "--classes", str(tmp_path / "classes.txt")]
        assert command.main(["--bag", str(first), *words]) == 0
        say_ant(output)
        with monkeypatch.context() as patched:
            killed_at(patched, write)
            try:
                ended += command.main(["--bag", str(bag), *words]) == 0
            except Killed:
                assert [row["class"] for row in rows_of(output)][:1] == ["ant"]
        assert command.main(["--bag", str(bag), *words]) == 0
        rows = rows_of(output)
        assert [row["class"] for row in rows] == ["ant", "", "", ""]
        assert {row["path"] for row in rows} == {str(one.relative_to(output)) for one in output.rglob("*.png")}
    assert 0 < ended < 10  # kills came before, between and after all writes


def say_ant(output: Path) -> None:
    Session(Worklist(output / "labels.csv", OneClass())).decide(Decision((0,), ("ant",), "labelled"), -1)


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_full_disk_is_said_in_one_line_and_what_was_written_is_whole(
    tmp_path: Path, output: Path, collect, capsys, monkeypatch
) -> None:
    original = os.fsync
    left = iter(range(3))

    def full(descriptor: int) -> None:
        is_image = ".png" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if is_image and next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    code, rows = collect("--bag", scenes(tmp_path / "drive", range(10)))

    assert code == 2
    assert len(rows) == 3
    assert {row["path"] for row in rows} == {str(p.relative_to(output)) for p in output.rglob("*.png")}
    (line,) = capsys.readouterr().err.splitlines()
    assert "disk full" in line


def test_rows_that_a_person_labels_meanwhile_keep_their_labels(
    tmp_path: Path, output: Path, collect, monkeypatch
) -> None:
    bag = scenes(tmp_path / "drive", range(8))
    collect("--bag", bag, "--budget", 3)
    original = SetWriter.add

    def label(self: SetWriter, *words: object) -> str:
        text = (output / "labels.csv").read_text()
        (output / "labels.csv").write_text(text.replace(".png,,,", ".png,bee,labelled,"))
        return original(self, *words)

    monkeypatch.setattr(SetWriter, "add", label)
    _, rows = collect("--bag", bag, "--budget", 2)

    assert [(row["class"], row["state"]) for row in rows] == [("bee", "labelled")] * 3 + [("", "")] * 2


def test_two_collections_at_once_whose_recordings_are_called_alike_leave_each_row_its_own_image(
    tmp_path: Path, output: Path, collect, monkeypatch
) -> None:
    first = scenes(tmp_path / "monday" / "drive", range(4))
    other = scenes(tmp_path / "tuesday" / "drive", range(50, 54))
    original = collecting.place

    def place(*words: object) -> object:
        monkeypatch.setattr(collecting, "place", original)
        assert collect("--bag", other)[0] == 0  # while the first has read all and written nothing
        return original(*words)

    monkeypatch.setattr(collecting, "place", place)
    _, rows = collect("--bag", first, "--gap", 0)

    assert len({row["path"] for row in rows}) == len(rows)
    found = [np.asarray(Image.open(output / row["path"])) for row in rows]
    for number in (*range(4), *range(50, 54)):
        assert sum(np.array_equal(image, scene(number)) for image in found) == 1


def test_a_label_that_is_given_while_the_table_is_written_waits_and_is_not_lost(
    tmp_path: Path, output: Path, collect, monkeypatch
) -> None:
    bag = scenes(tmp_path / "drive", range(8))
    collect("--bag", bag, "--budget", 3)
    session = Session(Worklist(output / "labels.csv", OneClass()))
    (output / "classes.txt").write_text("ant\nbee\n")
    decision = Decision((0,), ("bee",), "labelled")
    person = threading.Thread(target=lambda: session.decide(decision, -1))
    original = DataSetTable.write

    def write(self: DataSetTable) -> None:
        person.start()
        person.join(0.5)  # as long as it takes to lose it, where nothing keeps it waiting
        original(self)

    monkeypatch.setattr(DataSetTable, "write", write)
    collect("--bag", bag, "--budget", 2)
    person.join()

    assert [(row["class"], row["state"]) for row in rows_of(output)] == [("bee", "labelled")] + [("", "")] * 4


@pytest.mark.parametrize("there_is", ["a file", "a folder"])
def test_what_lies_where_an_image_belongs_is_left_alone(tmp_path: Path, output: Path, collect, there_is) -> None:
    bag = scenes(tmp_path / "drive", range(2))
    place = output / "images" / "drive" / f"{START_NS}.png"
    place.parent.mkdir(parents=True)
    place.write_text("of somebody") if there_is == "a file" else place.mkdir()
    _, rows = collect("--bag", bag)

    assert Path(rows[0]["path"]).name == f"{START_NS}_2.png"
    assert place.is_dir() if there_is == "a folder" else place.read_text() == "of somebody"


def test_a_table_that_is_a_link_is_written_where_it_is(tmp_path: Path, output: Path, collect) -> None:
    output.mkdir()
    (tmp_path / "real.csv").write_text("path,class\n")
    (output / "labels.csv").symlink_to(tmp_path / "real.csv")
    _, rows = collect("--bag", scenes(tmp_path / "drive", range(2)))

    assert (output / "labels.csv").is_symlink()
    assert len(rows) == len((tmp_path / "real.csv").read_text().splitlines()) - 1 == 2


def test_labels_of_a_killed_run_that_knew_other_classes_are_refused(
    tmp_path: Path, output: Path, collect, there
) -> None:
    output.mkdir()
    (output / "classes.txt").write_text("wasp\n")  # written before the table
    (tmp_path / "classes.txt").write_text("ant\n")

    assert collect("--bag", there["BAG"], "--classes", tmp_path / "classes.txt") == (2, [])


def test_a_stamp_that_a_person_has_changed_to_none_is_no_obstacle(tmp_path: Path, output: Path, collect) -> None:
    _, rows = collect("--bag", scenes(tmp_path / "drive", range(3)))
    odd = [row | {"stamp_ns": stamp, "cluster": "²"} for row, stamp in zip(rows, ("--5", "1e9", "³"), strict=True)]
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(odd)
    code, after = collect("--bag", scenes(tmp_path / "other", range(10, 12)))

    assert code == 0
    assert after[:3] == odd
    assert len(after) == 5


@pytest.fixture
def there(tmp_path: Path) -> dict[str, Path]:
    """Sources, by what the table of bad input calls them."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "shots").mkdir()
    Image.fromarray(scene(0)).save(tmp_path / "shots" / "a.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (tmp_path / "blank.txt").write_text("ant\n\nbee\n")
    (tmp_path / "taken.txt").write_text("speed\ndoubt\n")
    (tmp_path / "parted.txt").write_text("ant;bee\n")
    text = write_bag(tmp_path / "text", [("/words", START_NS, tiny_bag.string("no image"))])
    return {
        "BAG": scenes(tmp_path / "drive", range(3)),
        "TEXT": text,
        "EMPTY": tmp_path / "empty",
        "SHOTS": tmp_path / "shots",
        "BROKEN": tmp_path / "broken",
        "BLANK": tmp_path / "blank.txt",
        "TAKEN": tmp_path / "taken.txt",
        "PARTED": tmp_path / "parted.txt",
        "MISSING": tmp_path / "missing",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "name what to collect from"),
        ("--bag MISSING", "there is no such bag"),
        ("--bag EMPTY", "there is no recording in it"),
        ("--bag TEXT", "image topics in it: none"),
        ("--bag BAG --topic /other", "there is no topic /other"),
        ("--images MISSING", "there is no such folder"),
        ("--images EMPTY", "there is no image in it"),
        ("--images BROKEN", "not one of 1 frames can be used"),
        ("--recorded MISSING", "there is no such folder"),
        ("--recorded EMPTY", "holds neither frames.csv nor a recording"),
        ("--bag BAG --budget 0", "--budget is 0"),
        ("--bag BAG --doubt-share 1.5", "--doubt-share is 1.5"),
        ("--bag BAG --min-distance -1", "--min-distance is -1"),
        ("--bag BAG --min-distance nan", "--min-distance is nan"),
        ("--bag BAG --val-fraction 1", "--val-fraction is 1.0"),
        ("--bag BAG --shadow MISSING", "--shadow disagrees with --model"),
        ("--bag BAG --model MISSING", "missing"),
        ("--bag BAG --classes BLANK", "line 2 is empty"),
        ("--bag BAG --classes MISSING", "neither a number nor a readable file"),
        ("--bag BAG --task regression", "needs --classes"),
        ("--bag BAG --task regression --classes TAKEN", "a number cannot be called 'doubt'"),
        ("--bag BAG --task multilabel --classes PARTED", "which stand between the classes of an image"),
        ("--bag BAG --backbone resnet18", "belong together"),
        ("--bag BAG --checkpoint MISSING", "no such checkpoint"),
        ("--bag BAG --encoding nonsense", "nonsense"),
        ("--images SHOTS --topic /a", "--topic belongs to --bag"),
        ("--topic /a /b", "one running camera at a time"),
        ("--topic /a --rate 0", "--rate is 0"),
        ("--topic /a --seconds 0", "--seconds is 0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(there, output: Path, collect, capsys, words, said) -> None:
    given = [there.get(word, word) for word in words.split()]

    assert collect(*given) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not output.exists() or list(output.iterdir()) == []


def test_data_set_in_what_is_read_is_refused_and_the_other_way_round(tmp_path: Path, there, capsys) -> None:
    shots = there["SHOTS"]
    assert command.main(["--images", str(shots), "--output", str(shots / "set")]) == 2
    assert "lies in" in capsys.readouterr().err
    assert command.main(["--images", str(shots), "--output", str(tmp_path)]) == 2
    assert "lies in --output" in capsys.readouterr().err
    assert command.main(["--bag", str(there["BAG"]), "--output", str(there["BAG"] / "set")]) == 2
    assert command.main(["--bag", str(tmp_path / "nothing*"), "--output", str(tmp_path / "s")]) == 2
    assert sorted(path.name for path in shots.iterdir()) == ["a.png"]


def test_table_of_another_program_is_refused_by_column(output: Path, there, collect, capsys) -> None:
    output.mkdir()
    (output / "labels.csv").write_text("path,class,split\na.png,ant,train\n")
    code, _ = collect("--bag", there["BAG"])

    assert code == 2
    assert "the column 'split' is called 'part'" in capsys.readouterr().err


def test_data_set_that_cannot_be_made_is_refused_before_a_frame_is_read(output: Path, there, collect, capsys) -> None:
    output.write_text("a file")

    assert collect("--bag", there["BAG"])[0] == 2
    said = capsys.readouterr()
    assert "reading" not in said.out
    assert "is no folder" in said.err


def test_what_is_read_is_said_at_once(there, collect, capsys, monkeypatch) -> None:
    def stuck(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Describer, "__call__", stuck)
    collect("--bag", there["BAG"])

    assert capsys.readouterr().out.startswith(f"reading {there['BAG']}")
