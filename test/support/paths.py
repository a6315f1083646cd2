"""Where the tests find the checkout and the real data that lies beside it on some machines; disks that fill up."""

from __future__ import annotations

import contextlib
import csv
import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real images, recordings and weights; tests that use them are skipped where there are none."""


UNWRITABLE = Path("/proc/self/task")
"""A folder in which nobody can make a file, whoever asks."""


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A disk of this size at a new folder; the test is skipped where none may be mounted."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path, *, again_writable: bool = False) -> None:
    """Mounts a `small_disk` again, as a system does on which a disk fails."""
    subprocess.run(["mount", "-o", "remount," + ("rw" if again_writable else "ro"), str(disk)], check=True)


@contextlib.contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Lets this process write no file beyond a size, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_donkeycar_csv(tub: Path, folder: Path) -> Path:
    """Writes a DonkeyCar tub as folder/labels.csv: path, angle and throttle, in the order of the index."""
    records = [json.loads(line) for file in tub.glob("*.catalog") for line in file.read_text().splitlines()]
    deleted = set(json.loads((tub / "manifest.json").read_text().splitlines()[-1])["deleted_indexes"])
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "angle", "throttle"))
        for record in sorted(records, key=lambda record: record["_index"]):
            if record["_index"] not in deleted:
                image = tub / "images" / record["cam/image_array"]
                table.writerow((image.absolute(), record["user/angle"], record["user/throttle"]))
    return path


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lets every file that is going to be called `name` be written to a device that is always full."""
    really = Path.open

    def opened(path: Path, mode: str = "r", *arguments, **options):
        unfinished = "x" in mode and path.name.startswith(f".{name}.")
        return really(Path("/dev/full"), "wb") if unfinished else really(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
