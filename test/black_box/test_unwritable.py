"""Owns: what is said of a black box whose disk is full, read-only, gone or slow. Oracles: the system's words, rosbags.

Leaves to others: what is saved where all is well (test_black_box), DDS (test_node_black_box).
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from boxes import TIMEOUT_S, Bench, numbers
from paths import make_read_only, small_disk

from cnn_perception.bag import mcap_writer
from cnn_perception.bag.writer import BagWriter

FAULTS = {
    errno.ENOSPC: "disk full; free some space",
    errno.EDQUOT: "disk full; free some space",
    errno.EROFS: "mount its disk so that it can be written",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.ENOENT: "put it back",
    errno.EIO: "look at dmesg",
    errno.EFBIG: "check the folder and its permissions",
}


class Disk:
    """Writes of bags, which fail from one of them on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fault: int | None = None
        self.good = 0
        self._really = mcap_writer._write_all
        monkeypatch.setattr(mcap_writer, "_write_all", self._write)

    def fail_after(self, good: int, fault: int) -> None:
        self.good, self.fault = good, fault

    def _write(self, *arguments) -> None:
        if self.fault is not None and self.good == 0:
            raise OSError(self.fault, os.strerror(self.fault))
        self.good -= self.fault is not None
        self._really(*arguments)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def hanging(monkeypatch):
    """Has a disk write no message before this event is set."""
    goes_on = threading.Event()
    really = BagWriter.write

    def write(*arguments):
        goes_on.wait(TIMEOUT_S)
        really(*arguments)

    monkeypatch.setattr(BagWriter, "write", write)
    return goes_on


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize(("good", "kept"), [(0, 0), (1, 0), (8, 7)], ids=["open", "first", "middle"])
def test_who_asks_is_told_what_is_wrong_and_it_stays_said_until_a_bag_is_whole(tmp_path, disk, fault, good, kept):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    disk.fail_after(good, fault)  # the first write is the file's head, each other one a message
    success, told = bench.save(3.05)

    assert not success
    assert told.startswith(f"{tmp_path}: ")
    assert FAULTS[fault] in told
    assert told.endswith(f": no more than {kept} messages are saved)" if kept else ": is not saved)")
    assert "\n" not in told
    report = bench.box.report()
    assert (report.text, report.saved, report.cut, report.recording) == (told, 0, kept > 0, "")

    disk.fault = None
    success, path = bench.save(3.15)  # a try of its own, with all the seconds before
    assert success
    assert bench.box.report().text == told
    bench.receive(32, 62)
    assert bench.saved().startswith(f"saved {path.partition(': ')[0]}: ")
    report = bench.box.report()
    assert (report.text, report.saved, report.latest) == ("1 saved", 1, bench.bags()[-1])
    assert numbers(bench.bags()[-1]) == [*range(12, 31), *range(32, 42)]
    bench.box.close(TIMEOUT_S)


def test_fault_after_the_answer_is_said_and_a_second_call_is_told_of_it(tmp_path, disk):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    assert bench.save(3.05)[0]
    disk.fail_after(0, errno.ENOSPC)
    success, told = bench.save(3.1)  # belongs to the same recording

    assert not success
    assert told.startswith(f"{tmp_path}: disk full; free some space (")
    assert told.endswith(": no more than 21 messages are saved)")  # those of 2 s, and the first cause
    assert bench.box.report().text == told
    assert len(bench.bags()) == 1
    bench.box.close(TIMEOUT_S)


def test_index_that_cannot_be_written_is_no_bag_that_is_saved(tmp_path, disk):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    assert bench.save(3.05)[0]
    disk.fail_after(0, errno.ENOSPC)
    bench.box.end()
    assert bench.warned.get(timeout=TIMEOUT_S).startswith(f"{tmp_path}: disk full")
    report = bench.box.report()
    assert (report.saved, report.cut, report.latest) == (0, 1, None)
    bench.box.close(TIMEOUT_S)


def test_tries_that_fail_leave_neither_a_folder_nor_an_open_file(tmp_path, disk):
    bench = Bench(tmp_path)
    bench.receive(0, 3)
    disk.fail_after(0, errno.ENOSPC)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        assert not bench.save(0.3 + number / 100)[0]
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 10
    assert bench.bags() == []
    bench.box.close(TIMEOUT_S)


def test_causes_that_come_all_the_time_try_a_bad_disk_once_in_a_window(tmp_path, disk):
    bench = Bench(tmp_path)
    disk.fail_after(0, errno.EROFS)
    paths = set()
    for number in range(40):
        bench.receive(number, number)
        paths.add(bench.trigger(number / 10 + 0.01, "shadow_dispute"))
        bench.wait_until_written()
    assert 2 <= len(paths) <= 5
    assert bench.box.close(TIMEOUT_S)


def test_disk_that_has_not_answered_is_no_success_nor_waited_for(tmp_path, hanging):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    success, told = bench.save(3.05, timeout_s=0.01)
    hanging.set()

    assert not success
    assert told.endswith("nothing is written yet, the disk or this machine is slow; see /diagnostics")
    assert bench.save(3.06)[0]
    bench.box.close(TIMEOUT_S)


def test_messages_that_memory_had_no_room_for_make_no_whole_bag(tmp_path, hanging):
    bench = Bench(tmp_path, memory_mb=0.1, after_s=30.0)
    bench.receive(0, 3, side=100)
    bench.trigger(0.35)
    bench.receive(4, 60, side=100)
    success, told = bench.save(6.05, timeout_s=0.01)  # the cause itself has no room any more
    lost = bench.box.report().lost
    assert (success, told.partition(": ")[2]) == (
        False,
        f"{lost} messages are missing; the disk is slower than they come",
    )
    hanging.set()
    assert bench.box.close(TIMEOUT_S)

    report = bench.box.report()
    assert report.text.startswith(f"{tmp_path}: {lost} messages are missing; the disk is slower than they come (")
    assert (report.saved, report.cut) == (0, 1)


def test_recording_of_which_nothing_has_room_in_memory_is_no_success(tmp_path):
    bench = Bench(tmp_path, memory_mb=0.0001)
    bench.receive(0, 3)
    success, told = bench.save(0.35, timeout_s=0.01)
    assert not success
    assert "1 messages are missing" in told
    assert bench.box.close(TIMEOUT_S)

    report = bench.box.report()
    assert report.text.startswith(f"{tmp_path}: 1 messages are missing; the disk is slower than they come (")
    assert report.text.endswith(": is not saved)")
    assert (report.saved, report.cut, bench.bags()) == (0, 0, [])


def test_disk_that_hangs_after_some_messages_is_being_written_to(tmp_path, monkeypatch):
    """Also where they are written before the call has begun to wait."""
    goes_on, hangs = threading.Event(), threading.Event()
    really = BagWriter.write
    written = []

    def write(*arguments):
        written.append(arguments)
        if len(written) > 3:
            hangs.set()
            goes_on.wait(TIMEOUT_S)
        really(*arguments)

    monkeypatch.setattr(BagWriter, "write", write)
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    say = bench.box._say
    bench.box._say = lambda text: (bench.box._wake(), hangs.wait(TIMEOUT_S), say(text))
    success, told = bench.save(3.05, timeout_s=0.01)
    goes_on.set()
    assert success, told
    assert bench.box.close(TIMEOUT_S)


def test_what_was_lost_before_a_call_is_no_reason_against_its_own_seconds(tmp_path, hanging):
    bench = Bench(tmp_path, memory_mb=0.1, after_s=30.0)
    bench.receive(0, 3, side=100)
    bench.trigger(0.35)
    bench.receive(4, 60, side=100)
    hanging.set()
    bench.wait_until_written()
    assert bench.box.report().lost
    bench.receive(61, 85)
    assert bench.save(8.55)[0]
    assert bench.box.close(TIMEOUT_S)
    assert (bench.box.report().saved, bench.box.report().cut) == (0, 1)


def test_bag_that_a_defect_of_the_inputs_ends_is_counted_and_said(tmp_path):
    bench = Bench(tmp_path)
    bench.receive(0, 30)
    assert bench.save(3.05)[0]
    bench.box.fail(KeyError("as planned"))
    assert bench.box.close(TIMEOUT_S)

    said = bench.warned.get(timeout=TIMEOUT_S)
    assert "as planned" in said
    assert said.endswith(f"({bench.bags()[0].name}: no more than 21 messages are saved)")
    assert (bench.box.report().saved, bench.box.report().cut) == (0, 1)


def test_folder_that_vanishes_in_the_middle_is_said_and_made_again_by_the_next_call(tmp_path):
    folder = tmp_path / "box"
    bench = Bench(folder)
    bench.receive(0, 30)
    assert bench.save(3.05)[0]
    shutil.rmtree(folder)

    success, told = bench.save(3.06)
    assert not success
    assert told.startswith(f"{folder}: cannot be written (the file was removed while it was written); it or its disk")
    assert bench.save(3.07)[0]
    bench.box.close(TIMEOUT_S)
    assert numbers(bench.bags()[0]) == [*range(11, 31)]


def test_folder_that_reaches_its_size_is_no_success_and_no_whole_bag(tmp_path):
    bench = Bench(tmp_path, max_mb=0.05)
    bench.receive(0, 30, side=50)
    success, told = bench.save(3.05)
    assert not success
    assert told.startswith(f"{tmp_path}: 0.05 MB are full; move bags elsewhere (")
    assert (bench.box.report().saved, bench.box.report().cut) == (0, 1)
    bench.box.close(TIMEOUT_S)
    later = Bench(tmp_path, max_mb=0.01)
    told = later.warned.get(timeout=TIMEOUT_S)  # before any call
    assert told == f"{tmp_path}: 0.01 MB are full; move bags elsewhere"
    later.box.close(TIMEOUT_S)


def test_where_nothing_has_come_yet_or_the_node_rests_memory_is_not_said_to_be_too_small(tmp_path):
    bench = Bench(tmp_path)
    assert bench.box.report().text == "0 saved"
    bench.receive(0, 3)
    bench.box.end()
    assert bench.box.report().text == "0 saved"
    bench.box.close(TIMEOUT_S)


def test_real_disk_that_is_full_or_read_only_is_said_at_the_start_and_to_who_asks(tmp_path):
    with small_disk(tmp_path / "disk", 2**20) as folder:
        rest = folder / "rest"
        with pytest.raises(OSError, match="No space"):  # what fits is there
            rest.write_bytes(bytes(2**21))
        bench = Bench(folder)
        assert bench.warned.get(timeout=TIMEOUT_S) == f"{folder}: disk full; free some space"
        bench.receive(0, 30)
        success, told = bench.save(3.05)
        assert (success, told.partition(" (")[0]) == (False, f"{folder}: disk full; free some space")

        rest.unlink()
        make_read_only(folder)
        success, told = bench.save(3.06)
        assert not success
        assert told.startswith(f"{folder}: cannot be written (Read-only file system); mount its disk so that")
        make_read_only(folder, again_writable=True)

        rest.write_bytes(bytes(2**20 - 60_000))  # the first messages fit, not all of them
        bench.receive(31, 60, side=60)
        success, told = bench.save(6.05)
        assert not success
        assert told.startswith(f"{folder}: disk full; free some space (")
        assert "no more than " in told
        rest.unlink()
        assert bench.save(6.06)[0]
        bench.box.close(TIMEOUT_S)
        assert bench.box.report().text == "1 saved"
