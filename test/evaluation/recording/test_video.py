"""The video of an evaluation: every frame once, in order, whatever number of threads encodes it."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from cnn_perception.errors import DataError
from cnn_perception.evaluation.recording import pyav_video, video_file
from cnn_perception.evaluation.recording.opencv_video import OpenCvVideo
from cnn_perception.evaluation.recording.pyav_video import PyAvVideo
from cnn_perception.image.messages import RgbImage

SIZE = (48, 64)


def numbered(count: int, size: tuple[int, int] = SIZE) -> Iterator[RgbImage]:
    """Pictures whose eight columns are white where their number has a one in base two."""
    height, width = size
    for number in range(count):
        bits = np.unpackbits(np.array([number], np.uint8)) * np.uint8(255)
        row = np.repeat(bits, -(-width // 8))[:width]
        yield RgbImage(np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3))))


def numbers(path: Path) -> list[int]:
    """What a player sees."""
    video = cv2.VideoCapture(str(path))
    found = []
    while (read := video.read())[0]:
        columns = np.array_split(read[1].mean(axis=(0, 2)), 8)
        found.append(int(np.packbits([column.mean() > 127 for column in columns])[0]))
    return found


Way = type[OpenCvVideo] | type[PyAvVideo]


@pytest.fixture(params=["pyav", "joined", "alone"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """By PyAV, by an OpenCV that joins segments, and by an older one."""
    if request.param == "pyav":
        if not pyav_video.is_installed():
            pytest.skip("PyAV is not installed: requirements/video.txt")
        return PyAvVideo
    if request.param == "alone":
        monkeypatch.delattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO", raising=False)
    elif not hasattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO"):
        pytest.skip("this OpenCV cannot join what was encoded before")
    return OpenCvVideo


@pytest.mark.parametrize("count", [1, 30, 31, 200])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_frame_is_shown_once_and_in_order(tmp_path: Path, way: Way, count: int, workers: int) -> None:
    with way(tmp_path, "overlay", 12.5, *SIZE) as video:
        video.write(numbered(count), workers)

    assert numbers(video.path) == list(range(count))
    assert cv2.VideoCapture(str(video.path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert list(tmp_path.iterdir()) == [video.path]


def test_what_is_written_in_two_parts_goes_on_after_the_first(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(itertools.islice(numbered(70), 40))
        video.write(itertools.islice(numbered(70), 40, None))

    assert numbers(video.path) == list(range(70))


@pytest.mark.parametrize("rate_hz", [1.0, 29.97, 60.0])
@pytest.mark.parametrize("size", [(49, 64), (48, 65), (47, 63)])
def test_odd_sizes_and_every_rate_of_a_camera(tmp_path: Path, way: Way, rate_hz: float, size: tuple[int, int]) -> None:
    with way(tmp_path, "overlay", rate_hz, *size) as video:
        video.write(numbered(35, size))

    played = cv2.VideoCapture(str(video.path))
    assert played.get(cv2.CAP_PROP_FPS) == pytest.approx(rate_hz, rel=1e-3)
    assert played.read()[1].shape == (size[0] // 2 * 2, size[1] // 2 * 2, 3)
    assert len(numbers(video.path)) == 35


def test_a_folder_may_be_called_like_a_protocol(tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("2026-11-28T17:58")
    folder.mkdir()
    with way(folder, "overlay", 10.0, *SIZE) as video:
        video.write(numbered(3))

    assert numbers(video.path.absolute()) == [0, 1, 2]


def test_a_folder_that_is_not_there_is_told_before_anything_is_encoded(tmp_path: Path, way: Way) -> None:
    with pytest.raises(DataError, match="nowhere"):
        way(tmp_path / "nowhere", "overlay", 10.0, *SIZE)


@pytest.mark.parametrize("content", ["", "raise ImportError", "CodecContext = None"])
def test_without_pyav_or_with_another_module_of_its_name_opencv_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "av").mkdir()
    if content:
        (tmp_path / "av" / "__init__.py").write_text(content)
    for name in [name for name in sys.modules if name.partition(".")[0] == "av"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert not pyav_video.is_installed()
    sys.modules.pop("av", None)


def test_colours_are_those_of_the_pictures(tmp_path: Path, way: Way) -> None:
    colours = [(200, 40, 60), (30, 180, 90), (50, 70, 220)]
    with way(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(RgbImage(np.full((*SIZE, 3), colour, np.uint8)) for colour in colours)

    played = cv2.VideoCapture(str(video.path))
    for colour in colours:
        assert played.read()[1][..., ::-1].mean(axis=(0, 1)) == pytest.approx(colour, abs=4)


def test_frames_of_another_size_are_scaled(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(itertools.chain(numbered(3), itertools.islice(numbered(40, (96, 128)), 3, None)))

    assert numbers(video.path)[:3] == [0, 1, 2]
    assert len(numbers(video.path)) == 40


def test_a_frame_that_cannot_be_drawn_leaves_no_file(tmp_path: Path, way: Way) -> None:
    def broken() -> Iterator[RgbImage]:
        yield from numbered(100)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"), way(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(broken())

    assert not list(tmp_path.iterdir())


def test_a_segment_that_lost_frames_is_told_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO"):
        pytest.skip("this OpenCV cannot join what was encoded before")
    encode = OpenCvVideo._encode

    def cut(self: OpenCvVideo, segment: tuple[int, tuple[RgbImage, ...]]) -> tuple[Path, int]:
        path, count = encode(self, segment)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path, count

    monkeypatch.setattr(OpenCvVideo, "_encode", cut)

    with pytest.raises(DataError, match="is the disk full"), OpenCvVideo(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(numbered(100))

    assert not list(tmp_path.iterdir())


def noisy(count: int) -> Iterator[RgbImage]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield RgbImage(rng.integers(0, 256, (*SIZE, 3), np.uint8))


@pytest.mark.parametrize("share", [0.5, 0.999, 1.0])
def test_a_disk_that_fills_up_is_one_error_and_leaves_no_file(
    tmp_path: Path, way: Way, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit of the size of files stands for the disk: half, less than the last frame, or one byte is missing."""
    with way(tmp_path, "whole", 10.0, *SIZE) as video:
        video.write(noisy(90))
    room = int(video.path.stat().st_size * share) - (share == 1)
    video.path.unlink()
    capfd.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with (
            pytest.raises(DataError, match=r"overlay\.\w+: .*(is the disk full|could not be written)"),
            way(tmp_path, "overlay", 10.0, *SIZE) as video,
        ):
            video.write(noisy(90))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list(tmp_path.iterdir())
    assert not [line for line in capfd.readouterr().err.splitlines() if "Failed to write" in line]


def test_a_codec_that_can_be_joined_but_not_encoded_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an FFmpeg without libvpx."""
    opened = OpenCvVideo._open

    def without_libvpx(self: OpenCvVideo, path: Path, settings: Sequence[int] = ()) -> cv2.VideoWriter | None:
        is_encoder = self._codec == "VP80" and not settings
        return None if is_encoder else opened(self, path, settings)

    monkeypatch.setattr(OpenCvVideo, "_open", without_libvpx)

    with OpenCvVideo(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(numbered(70))

    assert video.path.name == "overlay.avi"
    assert numbers(video.path) == list(range(70))
    assert list(tmp_path.iterdir()) == [video.path]


def test_a_player_can_jump_to_every_segment(tmp_path: Path, way: Way) -> None:
    with way(tmp_path, "overlay", 10.0, *SIZE) as video:
        video.write(numbered(100))
    if not hasattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO"):
        pytest.skip("this OpenCV cannot tell what begins with a key frame")

    packets = cv2.VideoCapture(str(video.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    are_keys = []
    while packets.read()[0]:
        are_keys.append(bool(packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME)))
    assert len(are_keys) == 100
    assert all(are_keys[:: video_file._SEGMENT])
