"""Owns: checkpoints on the disk: complete, or as before. Leaves to others: what training puts into them."""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import signal
import struct
import time
import zipfile

import pytest
import torch
from checkpoints import MADE
from paths import files_of_at_most, fill_the_disk

from cnn_perception.errors import DataError
from training import checkpoint
from training.checkpoint import Checkpoint


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    checkpoint.save(tmp_path / "last.pt", MADE)

    read = checkpoint.load(tmp_path / "last.pt")

    for field in dataclasses.fields(Checkpoint):
        if field.name not in ("model", "resume"):
            assert getattr(read, field.name) == getattr(MADE, field.name)
    assert read.model.keys() == MADE.model.keys()
    assert all(torch.equal(read.model[name], MADE.model[name]) for name in read.model)
    assert torch.equal(read.resume["rng"][0], MADE.resume["rng"][0])
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruded",)


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(tmp_path / "good.pt", MADE)
    whole = (tmp_path / "good.pt").read_bytes()
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    contents = {
        "truncated": whole[: len(whole) // 2],
        "zero": b"",
        "text": b"hello",
        "damaged": whole.replace(b"calibration", b"calibratio0", 1),
        "instruction": whole.replace(b"ccollections\nOrderedDict", b"s" * 24, 1),
        "code": pickle.dumps(Intruder(), protocol=2),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    torch.save({"model": Intruder()}, tmp_path / "hidden.pt")
    (tmp_path / "folder.pt").mkdir()

    for name in (*contents, "foreign", "hidden", "folder", "missing"):
        with pytest.raises(DataError, match=f"{name}.pt: ") as caught:
            checkpoint.load(tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_an_archive_that_says_it_spans_disks_is_refused_in_one_line(tmp_path):
    path = tmp_path / "best.pt"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 0, 0, 0)
    other_disks = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2)  # the locator of zip64: of two disks in all
    path.write_bytes(b"PK\x03\x04" + bytes(60) + other_disks + end)

    with pytest.raises(DataError, match="cut off"):
        checkpoint.load(path)


def test_a_full_disk_is_said_and_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, MADE)
    before = path.read_bytes()
    fill_the_disk(monkeypatch, "last.pt")

    with pytest.raises(DataError, match=r"last\.pt: disk full"):
        checkpoint.save(path, dataclasses.replace(MADE, model={"w": torch.zeros(100_000)}))

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_failing_write_is_said_and_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, MADE)
    before = path.read_bytes()
    refusal = f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"

    with files_of_at_most(50_000), pytest.raises(DataError, match=refusal):
        checkpoint.save(path, dataclasses.replace(MADE, model={"w": torch.zeros(100_000)}))

    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        checkpoint.save(tmp_path / "no such folder" / "last.pt", MADE)


@pytest.mark.parametrize("delay_ms", [5, 17, 40, 90])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, delay_ms):
    path = tmp_path / "last.pt"
    checkpoint.save(path, MADE)
    child = os.fork()
    if child == 0:
        for number in range(1000):
            checkpoint.save(path, dataclasses.replace(MADE, model={"w": torch.full((100_000,), float(number))}))
        os._exit(0)
    time.sleep(delay_ms / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    tensors = checkpoint.load(path).model
    assert "fc.weight" in tensors or bool((tensors["w"] == tensors["w"][0]).all())


def test_a_checkpoint_whose_tensors_are_compressed_is_refused_before_they_are_unpacked(tmp_path):
    checkpoint.save(tmp_path / "sound.pt", MADE)
    with zipfile.ZipFile(tmp_path / "sound.pt") as sound, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in sound.namelist():
            bomb.writestr(name, sound.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError):
        checkpoint.load(tmp_path / "bomb.pt")
    checkpoint.load(tmp_path / "sound.pt")
