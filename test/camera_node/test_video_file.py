"""Owns: what camera_node says of videos that are cut short, damaged, trimmed or whole, and that it shows what is there.

The oracle is what the test has written: every frame has a brightness of its own.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from ros import Process, new_domain, participant, running
from sensor_msgs.msg import Image

from cnn_perception.camera_node.node import FrameSource
from cnn_perception.errors import DataError

COUNT = 60
RATE_HZ = 20.0
KINDS = [
    *(
        ("a.avi", "MJPG"),
        ("b.avi", "XVID"),
        ("a.mp4", "mp4v"),
        ("a.mov", "mp4v"),
        ("a.mkv", "mp4v"),
        ("a.webm", "VP80"),
    ),
    *(("a.flv", "FLV1"), ("a.ts", "mpg2"), ("a.wmv", "WMV2"), ("a.mjpeg", "MJPG"), ("a.mpg", "PIM1")),
]


def written(path: Path, code: str) -> Path:
    """A video of noisy grey frames, each brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), RATE_HZ, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {code}")
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8) + noise.integers(0, 16, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def levels(source: FrameSource) -> list[float]:
    """The brightness of each frame, without the noise's."""
    found = []
    while (image := source.read()) is not None:
        found.append(float(image.mean()) - 7.5)
    return found


def lack(source: FrameSource) -> tuple[str, bool]:
    """What is said, and whether it is certain."""
    levels(source)
    return ("", False) if source.lack is None else (source.lack.text, source.lack.is_certain)


@pytest.mark.parametrize(("name", "code"), KINDS)
def test_every_frame_of_a_whole_video_is_shown_and_nothing_is_said(name: str, code: str, tmp_path: Path):
    source = FrameSource(str(written(tmp_path / name, code)))
    assert np.abs(np.array(levels(source)) - 4 * np.arange(COUNT)).max() < 6
    assert (source.lack, source.skipped) == (None, [])


@pytest.mark.parametrize(("name", "code"), KINDS)
def test_a_loop_begins_again_with_the_first_frame_and_leaves_none_out(name: str, code: str, tmp_path: Path):
    """Also of streams that have no index, in which no place can be looked up."""
    source = FrameSource(str(written(tmp_path / name, code)), loop=True)
    images = [source.read() for _ in range(2 * COUNT + 3)]
    assert None not in [image if image is None else image.shape for image in images]
    for first, again in zip(images, images[COUNT:], strict=False):
        assert np.array_equal(first, again)


def test_a_video_that_is_gone_in_its_second_round_is_said(tmp_path: Path):
    path = written(tmp_path / "a.avi", "MJPG")
    source = FrameSource(str(path), loop=True)
    for _ in range(COUNT):
        source.read()
    path.unlink()
    with pytest.raises(DataError, match=r"a\.avi: cannot be opened again"):
        source.read()


@pytest.mark.parametrize(
    ("name", "code"), [kind for kind in KINDS if Path(kind[0]).suffix in {".avi", ".mkv", ".webm", ".flv"}]
)
def test_a_video_that_is_cut_short_is_told_with_both_numbers(name: str, code: str, tmp_path: Path):
    path = written(tmp_path / name, code)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = FrameSource(str(path))
    found = len(levels(source))
    assert 10 < found < 50
    assert source.lack is not None
    assert source.lack.text.startswith(f"{found} frames are read of the {COUNT} that it promises: it is cut short")
    assert source.lack.is_certain


def test_an_mp4_with_its_index_in_front_that_is_cut_short_is_told(tmp_path: Path):
    """As it is written for the web: the index is moved before the frames, and where they are in it with them."""
    path = written(tmp_path / "a.mp4", "mp4v")
    content = path.read_bytes()
    at = content.index(b"moov") - 4
    frames_at = content.index(b"mdat")
    moov = bytearray(content[at:])
    table = moov.index(b"stco") + 8
    (chunks,) = struct.unpack(">I", moov[table : table + 4])
    for place in range(table + 4, table + 4 + 4 * chunks, 4):
        moov[place : place + 4] = struct.pack(">I", struct.unpack(">I", moov[place : place + 4])[0] + len(moov))
    begin = content.index(b"ftyp") - 4
    (length,) = struct.unpack(">I", content[begin : begin + 4])
    whole = content[:length] + bytes(moov) + content[length:at]
    path.write_bytes(whole)
    assert lack(FrameSource(str(path))) == ("", False)
    path.write_bytes(whole[: len(moov) + frames_at + (at - frames_at) // 2])
    text, is_certain = lack(FrameSource(str(path)))
    assert "of the 60 that it promises: it is cut short" in text
    assert is_certain


@pytest.mark.parametrize("loop", [False, True])
def test_what_comes_after_frames_that_cannot_be_decoded_is_shown(loop: bool, tmp_path: Path):
    path = written(tmp_path / "a.mp4", "mp4v")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    source = FrameSource(str(path), loop=loop)
    frames = [source.read() for _ in range(3 * COUNT)] if loop else levels(source)
    assert source.lack is not None
    assert source.lack.is_certain
    (said,) = source.skipped  # once, however often it is shown
    lost = int(said.partition(": ")[2].split()[0])
    assert 0 < lost < 12
    assert "cannot be decoded" in said
    assert source.lack.text.startswith(f"{COUNT - lost} frames are read of the {COUNT}")
    if not loop:
        assert len(frames) == COUNT - lost
        assert frames[-1] == pytest.approx(4 * (COUNT - 1), abs=8)


def test_frames_that_a_trimmed_mp4_hides_are_no_damage(tmp_path: Path):
    """An edit list of two thirds of the video, as phones and `ffmpeg -c copy` trim it."""
    path = written(tmp_path / "a.mp4", "mp4v")
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    scale_at = content.index(b"mdhd") + 16
    (media_length,) = struct.unpack(">I", content[scale_at + 4 : scale_at + 8])
    (length,) = struct.unpack(">I", content[at : at + 4])
    content[at : at + 8] = struct.pack(">II", length * 2 // 3, media_length // 3)
    path.write_bytes(content)
    source = FrameSource(str(path))
    assert len(levels(source)) == 40
    assert source.lack is not None
    assert "40 frames are read of the 60 that it promises" in source.lack.text
    assert "trimmed" in source.lack.text
    assert not source.lack.is_certain


@pytest.mark.parametrize(
    ("told", "rate_hz"),
    [(-1.9e14, 20.0), (0.0, 20.0), (float("nan"), 20.0), (1e18, 20.0), (500.0, 90000.0), (9.0, 20.0)],
)
def test_a_number_of_frames_that_cannot_be_promises_nothing(
    told: float, rate_hz: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Video:
        """Of ten black frames."""

        def __init__(self, _: str) -> None:
            self.left = 10

        def isOpened(self) -> bool:  # noqa: N802 OpenCV's
            return True

        def get(self, what: int) -> float:
            return {cv2.CAP_PROP_FRAME_COUNT: told, cv2.CAP_PROP_FPS: rate_hz}.get(what, 2.0)

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (True, np.zeros((2, 2, 3), np.uint8)) if self.left >= 0 else (False, None)

    monkeypatch.setattr(cv2, "VideoCapture", Video)
    (tmp_path / "a.mkv").touch()
    source = FrameSource(str(tmp_path / "a.mkv"))
    assert len(levels(source)) == 10
    assert source.lack is None


def test_the_process_ends_with_the_code_of_bad_input_where_frames_are_missing(tmp_path: Path):
    path = written(tmp_path / "whole.avi", "MJPG")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    process = Process("camera_node", new_domain(), tmp_path / "log", source=cut, rate_hz=200.0)
    assert process.wait() == 2
    assert process.log.count("cut short or damaged") == 1
    assert "frames published" in process.log
    assert "Traceback" not in process.log
    process = Process("camera_node", new_domain(), tmp_path / "log2", source=path, rate_hz=200.0)
    assert process.wait() == 0
    assert "promises" not in process.log


def test_a_loop_over_a_damaged_video_goes_on_and_says_it_once(tmp_path: Path):
    path = written(tmp_path / "a.avi", "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    domain = new_domain()
    with running("camera_node", domain, tmp_path / "log", source=path, rate_hz=200.0, loop=True) as process:
        with participant(domain) as ros:
            images = ros.collect(Image, "image_raw")
            ros.wait_for(lambda: len(images) > 3 * COUNT, "three rounds")
        assert process.running
        assert process.log.count("cut short or damaged") == 1
