"""Draws the demo's data: a folder of labelled images to train on, and the labelled frames of a camera drive.

    python -m demo.draw --output DIR

leaves DIR/dataset/{train,val}/CLASS/*.jpg, DIR/masks/{train,val}/CLASS/*.png of what they show, DIR/drive/frames/*.jpg,
DIR/drive/masks/*.png and DIR/drive/labels.csv. The same seed draws the same bytes.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeAlias, TypeVar

import cv2
import numpy as np

from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.image.jpeg_encoding import encode_jpeg
from cnn_perception.image.messages import RgbImage
from cnn_perception.import_path import start_forkserver
from demo.lens import expose
from demo.masks import encode_mask, label, write_table
from demo.scene import render
from demo.shots import CLASSES, CLEAR, SIGN_S, Drive, DriveSettings, Stop, plan_drive, random_shot

__all__ = ["CLASSES", "STAMP", "draw_dataset", "draw_drive", "draw_masks", "draw_sample", "main"]

STAMP = "drawn.json"
"""Written last into what was drawn, so that it is recognised and reused."""
_VERSION = 1  # raised when the same settings would draw other pictures
_DRIVE_VERSION = 2
_FrameJob: TypeAlias = tuple[Path, DriveSettings, int]
_ImageJob: TypeAlias = tuple[Path, str, tuple[int, ...], int, int]
_Job = TypeVar("_Job")


def draw_sample(class_name: str, rng: np.random.Generator, height: int, width: int) -> RgbImage:
    """Draws one picture of a class with random pose, light, blur, noise and clutter.

    Args:
        class_name: One of `CLASSES`.
        rng: Decides everything else.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    shot = random_shot(class_name, rng, height, width)
    return expose(render(shot.view, shot.weather, shot.road, shot.panels), shot.lens, rng)


@functools.lru_cache(maxsize=1)
def _drive(settings: DriveSettings) -> Drive:
    return Drive(settings)


def _draw_frame(job: _FrameJob) -> None:
    folder, settings, frame = job
    shot = _drive(settings).shot(frame)
    rng = np.random.default_rng([settings.seed, 4, frame])
    image = expose(render(shot.view, shot.weather, shot.road, shot.panels), shot.lens, rng)
    _write_jpeg(folder / "frames" / f"{frame:06d}.jpg", image, 92)
    (folder / "masks" / f"{frame:06d}.png").write_bytes(encode_mask(label(shot)))


def draw_drive(
    output: Path,
    seconds: float,
    rate_hz: float,
    seed: int,
    *,
    height: int = 480,
    width: int = 640,
    sign_s: float = SIGN_S,
    processes: int = 2,
) -> Path:
    """Draws a camera drive past every sign: frames/000000.jpg, ..., masks/000000.png, ... and labels.csv.

    The labels are half-open intervals in seconds from the first frame, without gaps; they change half-way
    between two frames, so that a jitter of the stamps cannot move a frame to another class.

    Args:
        output: The folder to create.
        seconds: Length of the drive.
        rate_hz: Frames per second.
        seed: Decides the drive.
        height: Rows of a frame.
        width: Columns of a frame.
        sign_s: Seconds from one sign to the next.
        processes: How many draw at a time; 1 draws in this one.

    Returns:
        `output`; a drive already there with the same settings is kept.

    Raises:
        ConfigError: If there are not three frames for every sign.
        DataError: If `output` cannot be written, or holds something else.
    """
    settings = DriveSettings(seconds, rate_hz, seed, height, width, sign_s)
    stops = plan_drive(settings)
    stamp = {"drive": _DRIVE_VERSION, **vars(settings)}

    def fill(folder: Path) -> None:
        (folder / "frames").mkdir()
        (folder / "masks").mkdir()
        write_table(folder / "masks")
        (folder / "labels.csv").write_text(_label_table(stops, rate_hz), encoding="utf-8")
        jobs = [(folder, settings, frame) for frame in range(stops[-1].end)]
        _run_jobs(_draw_frame, jobs, processes, "drawing the drive")

    return _draw_once(output, stamp, fill)


def _label_table(stops: Sequence[Stop], rate_hz: float) -> str:
    """Returns the classes over time as a CSV file."""
    bounds = []
    for stop in stops:
        bounds += [(stop.start, stop.shown, CLEAR), (stop.shown, stop.end, stop.name)]
    lines = ["start_s,end_s,class"]
    for first, last, name in sorted(bounds):
        start_s = max(0.0, (first - 0.5) / rate_hz)
        end_s = (last if last == stops[-1].end else last - 0.5) / rate_hz
        lines.append(f"{start_s:.4f},{end_s:.4f},{name}")
    return "\n".join(lines) + "\n"


def _draw_image(job: _ImageJob) -> None:
    path, class_name, seed, height, width = job
    rng = np.random.default_rng(seed)
    _write_jpeg(path, draw_sample(class_name, rng, height, width), int(rng.integers(60, 96)))


def draw_dataset(
    output: Path, train: int, val: int, seed: int, *, height: int = 240, width: int = 320, processes: int = 2
) -> Path:
    """Draws an image folder, `output`/{train,val}/CLASS/000000.jpg, ...

    Args:
        output: The folder to create.
        train: Images a class to train on.
        val: Images a class to validate on.
        seed: Decides all images.
        height: Rows of an image.
        width: Columns of an image.
        processes: How many draw at a time; 1 draws in this one.

    Returns:
        `output`; a data set already there with the same settings is kept.

    Raises:
        ConfigError: If there would be no image.
        DataError: If `output` cannot be written, or holds something else.
    """
    stamp = _dataset_stamp("dataset", train, val, seed, height, width)

    def fill(folder: Path) -> None:
        _run_jobs(_draw_image, _dataset_jobs(folder, stamp, ".jpg"), processes, "drawing the data set")

    return _draw_once(output, stamp, fill)


def draw_masks(
    output: Path, train: int, val: int, seed: int, *, height: int = 240, width: int = 320, processes: int = 2
) -> Path:
    """Draws the masks of an image folder, `output`/{train,val}/CLASS/000000.png, ..., with their classes.csv.

    Args:
        output: The folder to create.
        train: As for `draw_dataset`, and so are the others.
        val: Likewise.
        seed: Likewise.
        height: Likewise.
        width: Likewise.
        processes: Likewise.

    Returns:
        `output`; masks already there with the same settings are kept.

    Raises:
        ConfigError: If there would be no image.
        DataError: If `output` cannot be written, or holds something else.
    """
    stamp = _dataset_stamp("masks", train, val, seed, height, width)

    def fill(folder: Path) -> None:
        write_table(folder)
        _run_jobs(_draw_mask, _dataset_jobs(folder, stamp, ".png"), processes, "drawing its masks")

    return _draw_once(output, stamp, fill)


def _draw_mask(job: _ImageJob) -> None:
    path, class_name, seed, height, width = job
    shot = random_shot(class_name, np.random.default_rng(seed), height, width)
    path.write_bytes(encode_mask(label(shot)))


def _dataset_stamp(kind: str, train: int, val: int, seed: int, height: int, width: int) -> dict[str, int]:
    if train < 1 or val < 1:
        raise ConfigError(f"{train} training and {val} validation images a class; draw at least 1 of each")
    return {kind: _VERSION, "train": train, "val": val, "seed": seed, "height": height, "width": width}


def _dataset_jobs(folder: Path, stamp: Mapping[str, int], ending: str) -> list[_ImageJob]:
    """Makes the folders of an image folder, and returns what is to be drawn into them."""
    jobs: list[_ImageJob] = []
    for part, split in enumerate(("train", "val")):
        for place, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for image in range(stamp[split]):
                path = folder / split / name / f"{image:06d}{ending}"
                jobs.append((path, name, (stamp["seed"], 5 + part, place, image), stamp["height"], stamp["width"]))
    return jobs


def _write_jpeg(path: Path, image: RgbImage, quality: int) -> None:
    path.write_bytes(encode_jpeg(image, quality))


def _run_jobs(draw: Callable[[_Job], None], jobs: Sequence[_Job], processes: int, title: str) -> None:
    """Draws every job, with a progress bar."""

    def show(done: Iterable[None]) -> None:
        for _ in ProgressBar(done, title, len(jobs), unit="image"):
            pass

    if processes == 1:
        show(map(draw, jobs))
        return
    start_forkserver(["cv2", "numpy"])  # a fork of this one would copy the threads' locks of the caller's libraries
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, context, _prepare_worker) as pool:
        show(pool.map(draw, jobs, chunksize=8))


def _prepare_worker() -> None:
    """Makes a worker process use one core and leave Ctrl-C to its parent."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_once(output: Path, stamp: Mapping[str, object], fill: Callable[[Path], None]) -> Path:
    """Returns `output`, filled in a folder beside it and renamed when whole, unless it is there with the same stamp."""
    part = output.with_name(f".{output.name}.part")
    signature = json.dumps(stamp).encode()
    try:
        if output.exists():
            if not (output / STAMP).is_file():
                raise DataError(f"{output} was not drawn by demo.draw; choose another --output or remove it")
            if (output / STAMP).read_bytes() == signature:
                return output
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        (part / STAMP).write_bytes(signature)
        if output.exists():
            shutil.rmtree(output)
        part.rename(output)
    except (OSError, BrokenProcessPool) as error:
        raise DataError(f"{output} cannot be drawn: {error}; check the disk's space and rights") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the data set and the drive; returns an exit code of `errors.py`."""
    parser = argparse.ArgumentParser("python -m demo.draw", description="Draws the demo's data set and camera drive.")
    parser.add_argument("--output", type=Path, required=True, help="folder that gets dataset/, masks/ and drive/")
    parser.add_argument("--train", type=int, default=240, help="training images a class (default: %(default)s)")
    parser.add_argument("--val", type=int, default=40, help="validation images a class (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=24.0, help="length of the drive (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides every picture, from 0 (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error(f"--seed: {arguments.seed} is negative; give 0 or more")
    return exit_code(lambda: _draw(arguments))


def _draw(arguments: argparse.Namespace) -> None:
    print(draw_dataset(arguments.output / "dataset", arguments.train, arguments.val, arguments.seed))
    print(draw_masks(arguments.output / "masks", arguments.train, arguments.val, arguments.seed))
    print(draw_drive(arguments.output / "drive", arguments.seconds, 10.0, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
