"""Owns: what a black box saves, by a clock that the tests set. Oracles: hand arithmetic, rosbags.

Leaves to others: what memory holds (test_ring), what the node hands in, over DDS (test_node_black_box).
"""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from boxes import TIMEOUT_S, Bench, frame, marks, numbers, settings
from paths import ROOT, files_of_at_most
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from cnn_perception.bag.reader import Bag
from cnn_perception.bag.writer import BagWriter
from cnn_perception.black_box.watch import Watch
from cnn_perception.errors import ConfigError


def custom_data_of(bag: Path) -> dict[str, str]:
    return yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]


def causes_of(bag: Path) -> str:
    return custom_data_of(bag)["causes"]


def test_exactly_the_frames_of_the_window_are_saved_in_their_order(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    path = bench.trigger(3.05)  # 2 s before are the frames from 11 on, 1 s after those up to 40
    bench.receive(31, 62)

    assert bench.saved().startswith(f"saved {path}: 31 messages; service: asked")  # 30 frames and the mark
    assert [str(bag) for bag in bench.bags()] == [path]
    assert numbers(bench.bags()[0]) == [*range(11, 41)]
    assert marks(bench.bags()[0]) == ["service: asked"]
    with Bag(bench.bags()[0]) as bag:
        images = list(bag.images(bag.image_topic()))
        assert bag.damage == []
    assert [image.log_time_ns for image in images] == [frame(number).log_time_ns for number in range(11, 41)]
    bench.box.close(10.0)


def test_what_is_received_in_the_window_and_handed_in_late_belongs_to_it(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    bench.trigger(3.05)
    bench.receive(31, 39)
    bench.now_s = 4.9
    bench.box.keep(frame(40))
    bench.receive(49, 62)
    bench.saved()

    assert numbers(bench.bags()[0]) == [*range(11, 41)]
    bench.box.close(10.0)


def test_causes_whose_windows_overlap_are_one_bag_without_a_frame_twice(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    bench.trigger(3.05)
    bench.receive(31, 35)
    bench.trigger(3.55, "topic", "within the window")
    bench.receive(36, 60)
    bench.wait_until_written()
    bench.trigger(6.05, "drift", "after it, but two seconds before that lie in it")
    bench.receive(61, 102)
    bench.saved()

    (bag,) = bench.bags()
    assert numbers(bag) == [*range(11, 71)]
    assert [mark.partition(":")[0] for mark in marks(bag)] == ["service", "topic", "drift"]
    assert causes_of(bag).startswith("service: asked; topic: within the window; drift: ")
    bench.box.close(10.0)


def test_causes_whose_windows_do_not_overlap_are_two_bags(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    bench.trigger(3.05)
    bench.receive(31, 61)  # the first window ends with frame 40, the second one begins with 42
    bench.trigger(6.15, "topic")
    bench.receive(62, 103)
    bench.saved()
    bench.saved()

    assert [numbers(bag) for bag in bench.bags()] == [[*range(11, 41)], [*range(42, 72)]]
    bench.box.close(10.0)


def test_causes_that_never_end_are_bags_of_a_bounded_length_without_a_frame_twice_or_missing(tmp_path):
    bench = Bench(tmp_path, before_s=0.2, after_s=0.2, memory_mb=100.0)  # at most 4 s after the first cause
    for number in range(100):
        bench.receive(number, number)
        bench.trigger(number / 10 + 0.01, "shadow_dispute", f"frame {number}")
    assert bench.box.close(10.0)

    found = [numbers(bag) for bag in bench.bags()]
    assert [number for one in found for number in one] == [*range(100)]
    assert len(found) == 3
    causes = causes_of(bench.bags()[0])
    assert causes.count("frame ") == 20
    assert causes.endswith("; and 21 more")


def test_nothing_is_saved_for_a_cause_that_is_not_wanted_or_while_nothing_is_kept(tmp_path):
    bench = Bench(tmp_path, causes=["service"])
    bench.receive(0, 5)
    assert bench.trigger(0.5, "drift") == ""
    bench.box.end()
    assert bench.trigger(0.6) == ""
    bench.receive(6, 9)
    bench.box.begin()
    assert bench.trigger(1.0)
    assert bench.box.close(10.0)

    assert numbers(bench.bags()[0]) == []  # what was there before the end is forgotten
    assert len(bench.bags()) == 1


def test_end_completes_the_bag_with_what_has_come_so_far(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    bench.trigger(3.05)
    bench.receive(31, 33)
    bench.box.end()
    bench.receive(34, 35)
    bench.saved()

    assert numbers(bench.bags()[0]) == [*range(11, 34)]
    bench.box.close(10.0)


@pytest.fixture
def disk_goes_on(monkeypatch):
    """An event until which nothing is written."""
    goes_on = threading.Event()
    really = BagWriter.write

    def write(*arguments):
        goes_on.wait(60.0)
        really(*arguments)

    monkeypatch.setattr(BagWriter, "write", write)
    return goes_on


def test_who_hands_in_a_message_never_waits_for_the_disk(tmp_path, disk_goes_on):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    bench.trigger(3.05)
    bench.receive(31, 62)  # returns although not one message can be written
    assert bench.box.report().waiting_bytes > 0
    disk_goes_on.set()
    bench.saved()

    assert numbers(bench.bags()[0]) == [*range(11, 41)]
    assert bench.box.report().lost == 0
    bench.box.close(10.0)


def test_what_waits_for_a_disk_that_stands_still_is_bounded_and_its_loss_counted(tmp_path, disk_goes_on):
    bench = Bench(tmp_path, memory_mb=0.1, after_s=30.0)
    bench.receive(0, 3, side=100)
    bench.trigger(0.35)
    bench.receive(4, 60, side=100)
    report = bench.box.report()
    assert report.waiting_bytes <= 200_000
    assert report.lost > 0
    disk_goes_on.set()
    assert bench.box.close(10.0)

    found = numbers(bench.bags()[0])
    assert found == sorted(found)
    assert len(found) + report.lost == 61


def test_memory_that_has_no_room_for_the_seconds_is_said_once_with_the_parameter(tmp_path):
    bench = Bench(tmp_path, memory_mb=0.02)
    bench.receive(0, 30, side=50)

    report = bench.box.report()
    assert report.is_cut
    assert 0 < report.held_s < 2.0
    assert report.text == f"memory has room for {report.held_s:.1f} of 2 s; raise black_box_memory_mb"
    assert "2 s before a cause; raise black_box_memory_mb" in bench.warned.get(timeout=10.0)
    assert bench.warned.empty()
    bench.trigger(3.01)
    bench.box.close(10.0)
    found = numbers(bench.bags()[0])
    assert found == [*range(31 - len(found), 31)]


def test_folder_that_is_full_ends_a_bag_whole_and_refuses_the_next_and_deletes_nothing(tmp_path):
    bench = Bench(tmp_path, max_mb=0.1)
    bench.receive(0, 30, side=50)
    bench.trigger(3.05)
    bench.receive(31, 62, side=50)
    problem = f"{tmp_path}: 0.1 MB are full; move bags elsewhere"
    warned = bench.warned.get(timeout=TIMEOUT_S)
    bench.wait_until_written()
    (bag,) = bench.bags()
    first = numbers(bag)
    assert first == [*range(11, 11 + len(first))]
    assert 3 < len(first) < 30
    assert warned == f"{problem} ({bag.name}: no more than {len(first) + 1} messages are saved)"  # and the cause
    report = bench.box.report()
    assert (report.text, report.lost > 0, report.saved, report.cut) == (warned, True, 0, 1)
    assert custom_data_of(bag) == {"causes": "service: asked", "problem": warned}

    bench.trigger(7.0)
    bench.receive(71, 102, side=50)
    assert bench.warned.get(timeout=TIMEOUT_S).startswith(f"{problem} (")
    bench.box.close(10.0)
    assert numbers(bench.bags()[0]) == first
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size <= 100_000


def test_full_disk_is_said_costs_that_recording_only_and_leaves_what_was_written(tmp_path):
    bench = Bench(tmp_path)
    with files_of_at_most(30_000):
        bench.receive(0, 30, side=50)
        bench.trigger(3.05)
        bench.receive(31, 62, side=50)
        assert bench.warned.get(timeout=60.0).startswith(f"{tmp_path}: cannot be written (File too large)")
        bench.wait_until_written()
    report = bench.box.report()
    assert report.text.startswith(f"{tmp_path}: cannot be written")
    assert report.lost > 0
    bench.trigger(20.0)
    bench.receive(201, 241)
    bench.saved()

    first, second = bench.bags()
    with Bag(first) as bag:
        kept = len(list(bag.images(bag.image_topic())))
    assert 3 < kept < 30
    assert numbers(second) == [*range(201, 211)]
    assert bench.box.report().problem == ""
    bench.box.close(10.0)


def test_folder_that_cannot_be_made_is_said_and_all_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "below")
    said = f"{tmp_path}/file/below: cannot be written (Not a directory); check the folder and its permissions"
    assert bench.warned.get(timeout=60.0) == said  # before there is anything to save
    bench.receive(0, 3)
    path = bench.trigger(0.35)

    said += f" ({Path(path).name}: is not saved)"
    assert bench.warned.get(timeout=60.0) == said
    assert bench.box.report().text == said
    assert bench.failed.empty()
    bench.box.close(10.0)


def test_defect_ends_the_black_box_alone_and_is_told_once(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("as planned")

    monkeypatch.setattr(BagWriter, "write", broken)
    bench = Bench(tmp_path)
    bench.receive(0, 3)
    bench.trigger(0.35)
    assert str(bench.failed.get(timeout=60.0)) == "'as planned'"
    bench.receive(4, 5)

    report = bench.box.report()
    assert (report.is_broken, report.text) == (True, "stopped by a defect (KeyError: 'as planned')")
    assert bench.trigger(0.6) == ""
    assert bench.failed.empty()


def test_kill_leaves_every_frame_that_was_written_before_it(tmp_path):
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "test" / "support")!r})
from boxes import Bench
bench = Bench(Path({str(tmp_path / "bags")!r}))
bench.receive(0, 30)
bench.trigger(3.05)
bench.receive(31, 35)
bench.wait_until_written()
while bench.box._worker._began_s is not None: pass
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode == -9, done.stderr
    (folder,) = (tmp_path / "bags").iterdir()
    with Bag(folder) as bag:
        images = list(bag.images(bag.image_topic()))
    assert [image.frame.height - 1 for image in images] == [*range(11, 36)]


# ---- causes


class Told:
    def __init__(self) -> None:
        self.causes: list[tuple[str, str]] = []

    def trigger(self, cause: str, text: str) -> str:
        self.causes.append((cause, text))
        return ""


def test_streak_of_unknowns_is_a_cause_when_it_is_as_long_as_wanted_and_once():
    told = Told()
    watch = Watch(told, 3)
    for is_unknown in (True, True, False, True, True, True, True, True, False, True, True):
        watch.answer("/front", is_unknown)
        watch.answer("/rear", not is_unknown)

    assert told.causes == [("unknown_streak", "3 answers in a row to /front are unknown")]


def test_every_further_dispute_is_a_cause_and_a_new_shadow_begins_anew():
    told = Told()
    watch = Watch(told, 3)
    for count, latest in ((0, ""), (1, "one"), (1, "one"), (3, "three"), (0, ""), (1, "another's")):
        watch.disputes(count, latest)

    assert told.causes == [("shadow_dispute", text) for text in ("one", "three", "another's")]


def test_drift_is_a_cause_when_it_begins():
    told = Told()
    watch = Watch(told, 3)
    for warnings in ((), ("dark",), ("dark", "unsure"), (), ("dark",)):
        watch.drift("/front", warnings)
        watch.drift("/rear", ())

    assert told.causes == [("drift", "/front: dark")] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"causes": ["drift", "nonsense"]}, "knows no cause 'nonsense'; choose of drift, unknown_streak"),
        ({"causes": []}, "has no cause to save anything"),
        ({"unknown_streak": 0}, "streak is 0; choose 1 or more"),
        ({"before_s": float("nan")}, "before_s is nan; choose a number above 0"),
        ({"memory_mb": 0.0}, "memory_mb is 0.0; choose a number above 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, said):
    with pytest.raises(ConfigError, match=said):
        settings(Path(), **changes)


def test_calibration_that_was_sent_once_long_before_begins_the_bag(tmp_path):
    bench = Bench(tmp_path)
    bench.box.keep(replace(frame(0), topic="/once", is_state=True))
    bench.receive(1, 90)
    bench.trigger(9.05)
    bench.receive(91, 122)
    bench.saved()

    with AnyReader([bench.bags()[0]], default_typestore=get_typestore(Stores.LATEST)) as bag:
        found = [(connection.topic, time_ns) for connection, time_ns, _ in bag.messages()]
    assert [time_ns for topic, time_ns in found if topic == "/once"] == [frame(71).log_time_ns]
    bench.box.close(10.0)
