"""Owns: that `make fuzz` finds what it looks for, and that its first inputs get past nothing.

Leaves to others: each defect that it has found (test_damage and the tests of the parts).
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from random import Random

import pytest

pytest.importorskip("torch", reason="needs what training needs")

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import DataError
from fuzz import ROOT, supervisor, worker
from fuzz.bags import bag_target
from fuzz.intact import intact_messages
from fuzz.target import Sample, Target, ViolationError
from fuzz.worker import TARGETS, Batch, judge, load, place_of, run_batch, samples_of, save, target_of

FEW = {"raw": 300, "compressed": 150, "mcap": 25, "sqlite3": 25, "graph": 10, "calibration": 20}
BAGS = [sample for storage in ("mcap", "sqlite3") for sample in bag_target(storage).samples()]


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def checked_by(check, content: bytes = b"x") -> Batch:
    """What becomes of one input that `check` reads."""
    batch = Batch()
    judge(Target("fake", list, lambda _random, sample, _pool: sample.files, check, batch=1), sample_of(content), batch)
    return batch


def sample_of(content: bytes) -> Sample:
    return Sample("origin", {"file": content})


def refusing(text: str):
    def check(_: Sample) -> str:
        raise DataError(text)

    return check


@pytest.mark.parametrize("name", [target.name for target in TARGETS])
def test_first_inputs_of_every_target_get_past_no_error(name):
    batch = run_batch(dataclasses.replace(target_of(name), batch=FEW.get(name, 50)), "smoke", 0, [])

    assert [failure.report for failure in batch.failures.values()] == []
    assert 0 < batch.refused < batch.count or name == "graph"


@pytest.mark.parametrize("name", [target.name for target in TARGETS])
def test_valid_inputs_are_accepted_and_no_bag_of_them_is_called_damaged(name):
    batch = Batch()
    outcomes = [judge(target_of(name), sample, batch) for sample in samples_of(name)]

    assert (batch.refused, list(batch.failures)) == (0, [])
    assert [outcome for outcome in outcomes if "damage" in outcome] == []


def test_same_seed_makes_the_same_inputs_and_another_one_others():
    found = [run_batch(target_of("gallery"), seed, 3, []).found for seed in ("a", "a", "b")]

    assert found[0] == found[1]
    assert found[0] != found[2]


def test_refusal_in_one_line_is_none_of_the_failures_and_anything_else_is():
    assert checked_by(refusing("one line")).failures == {}

    for error in (KeyError("x"), MemoryError(), RecursionError(), UnicodeDecodeError("utf-8", b"", 0, 1, "")):

        def check(_: Sample, error: Exception = error) -> str:
            raise error

        (place,) = checked_by(check).failures
        assert place.startswith(type(error).__name__)


def test_error_of_several_lines_is_a_failure(monkeypatch):
    monkeypatch.setattr(DataError, "__str__", lambda _: "one\ntwo")

    assert list(checked_by(refusing("")).failures) == ["ViolationError: an error of several lines, or of # characters"]


def test_failures_are_told_apart_by_their_place_not_by_their_values():
    def raised(text: str) -> str:
        try:
            raise ViolationError(text)
        except ViolationError as error:
            return place_of(error)

    assert raised("/a: lost; 3 of 4") == raised("/b: lost; 5 of 6")
    assert raised("lost") != raised("late")


@pytest.mark.parametrize("sample", BAGS, ids=lambda sample: f"{sample.origin}-{len(sample.files)}")
def test_judge_of_bags_finds_every_image_of_a_valid_bag(sample, tmp_path):
    for name, content in sample.files.items():
        (tmp_path / name).write_bytes(content)
    types = {"/camera": "sensor_msgs/msg/Image", "/jpeg": "sensor_msgs/msg/CompressedImage"}

    found = intact_messages(tmp_path, types)

    assert len(found) == (12 if sample.origin == "folder_split" else 10)


@pytest.mark.parametrize("sample", BAGS, ids=lambda sample: f"{sample.origin}-{len(sample.files)}")
def test_reader_that_loses_an_image_without_a_word_is_found_out(sample, monkeypatch):
    images = Bag.images
    monkeypatch.setattr(Bag, "images", lambda bag, topic: list(images(bag, topic))[1:])

    with pytest.raises(ViolationError, match="without a word"):
        target_of("mcap").check(sample)


def test_input_that_is_kept_is_read_again_as_it_was(tmp_path):
    sample = Sample("folder_split", {"a.mcap": b"1", "metadata.yaml": b"2"})

    assert load(save(tmp_path, "mcap", sample)) == ("mcap", sample)


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGSEGV, "crash (SIGSEGV)"), (signal.SIGSTOP, ("hang", "no start"))]
)
def test_process_that_crashes_or_hangs_is_replaced_and_its_input_is_kept(number, how, monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "_PROGRESS_S", 0.0)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 1.0)
    fuzzing = supervisor.Fuzzing(["gallery"], "seed", None, workers=1)
    tally = fuzzing.tallies["gallery"]
    hit: list[int] = []

    for _ in fuzzing.run(seconds=150.0):
        if tally.inputs and not hit:
            (child,) = supervisor.multiprocessing.active_children()
            monkeypatch.setattr(supervisor, "START_S", 1.0)  # it may have no input of its next batch yet
            os.kill(child.pid, number)
            hit.append(tally.inputs)
        elif tally.failures:
            monkeypatch.setattr(supervisor, "START_S", 100.0)
            if tally.inputs > hit[0] + 2 * target_of("gallery").batch:
                break

    (failure,) = tally.failures.values()
    assert failure.place.startswith(how)
    assert "gallery" in failure.sample.files


def test_command_counts_and_repeats_an_input(tmp_path):
    command = [sys.executable, "-m", "fuzz"]
    done = subprocess.run([*command, "--replay", save(tmp_path, "spec", sample_of(b"{}"))], cwd=ROOT, timeout=100)
    assert done.returncode == 0

    options = ["--minutes", "0.1", "--seed", "1", "--targets", "gallery", "--workers", "1"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=100)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("seed 1, 1 processes")


def test_mutation_changes_nearly_every_input():
    for target in TARGETS:
        pool = list(samples_of(target.name))
        changed = [target.mutate(Random(number), pool[0], pool) != pool[0].files for number in range(40)]
        assert sum(changed) > 20, target.name


def test_address_space_is_limited(monkeypatch):
    code = "from fuzz import worker; worker.limit_memory(); bytearray(3 << 30)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr.splitlines()[-1] == "MemoryError"
    assert worker.SPARE_BYTES < 3 << 30
