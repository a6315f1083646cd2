"""Owns: camera_node and its sources: folder, video, raw and compressed, over real DDS."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from calibrations import CALIBRATION
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros import Process, new_domain, participant, running
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cnn_perception import memory
from cnn_perception.camera_node.node import CameraNodeSettings, FrameSource
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.ros import transport

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 250, 0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """PNGs of 30x40 pixels, each of one colour, a file that is no image, and one that only claims to be."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, (red, green, blue) in enumerate(COLOURS):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((30, 40, 3), (blue, green, red), np.uint8))
    (folder / "notes.txt").write_text("not a frame")
    (folder / "1b.png").write_text("no image either")
    return folder


def colours(source: FrameSource, count: int) -> list[tuple[int, ...]]:
    images = itertools.takewhile(lambda image: image is not None, (source.read() for _ in range(count)))
    return [tuple(int(v) for v in image[5, 5]) for image in images]


@pytest.mark.parametrize("preload", [False, True])
def test_folder_is_shown_in_the_order_of_its_names(folder: Path, preload: bool):
    source = FrameSource(str(folder), preload=preload)
    assert colours(source, 99) == COLOURS
    assert source.read() is None
    assert len(source.skipped) == 1
    assert "1b.png" in source.skipped[0]


@pytest.mark.parametrize("preload", [False, True])
def test_loop_starts_again(folder: Path, preload: bool):
    assert colours(FrameSource(str(folder), loop=True, preload=preload), 6) == [*COLOURS, *COLOURS[:2]]


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.tif", "photo"])
def test_one_image_is_a_folder_of_one(name: str, tmp_path: Path):
    """Upright, whatever EXIF says of its pixels, and over white: as training and viewers show it."""
    pixels = np.zeros((16, 32, 4), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (200, 40, 40, 255), (0, 0, 0, 0)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    kind = {".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}.get(Path(name).suffix, "PNG")
    picture = PIL.Image.fromarray(pixels if kind != "JPEG" else pixels[..., :3] + (255 - pixels[..., 3:]))
    picture.save(tmp_path / name, format=kind, exif=exif, lossless=True, quality=95)
    source = FrameSource(str(tmp_path / name), loop=True)
    for _ in range(3):
        image = source.read()
        assert image is not None
        assert image.shape == (32, 16, 3)
        assert np.abs(image[4, 8].astype(int) - (200, 40, 40)).max() < 6
        assert image[28, 8].min() > 249


def test_half_a_jpeg_is_no_frame(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), noise)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    source = FrameSource(str(tmp_path / "a.jpg"))
    assert source.read() is None
    (skipped,) = source.skipped
    assert "the JPEG cannot be decoded" in skipped


def test_every_picture_of_an_animated_gif_is_a_frame(tmp_path: Path):
    pictures = [PIL.Image.new("RGB", (16, 16), colour) for colour in COLOURS]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    found = np.array(colours(FrameSource(str(tmp_path / "a.gif")), 99))
    assert np.abs(found - np.array(COLOURS)).max() < 8


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_of_another_animation_the_first_picture_is_shown_and_it_is_said_once(tmp_path: Path, kind: str):
    pictures = [PIL.Image.new("RGB", (16, 16), colour) for colour in COLOURS]
    pictures[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    pictures[0].save(tmp_path / "b.png")
    source = FrameSource(str(tmp_path), loop=True)
    assert colours(source, 4) == [COLOURS[0]] * 4
    (said,) = source.odd
    assert f"a.{kind}: the {kind.upper()} is an animation, of which the first picture is taken" in said


def test_what_is_odd_about_image_files_is_said_once_for_each_kind(tmp_path: Path):
    """It cannot be seen any more in what is published: numbers of 12 bits, distances, and pixels that are all clear."""
    twelve_bits = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    distances = np.where(np.arange(64 * 64) % 7 == 0, 0, 20_000 + twelve_bits.ravel()).reshape(64, 64).astype(np.uint16)
    files = [twelve_bits] * 4 + [distances] * 2 + [np.full((64, 64, 4), (9, 9, 200, 0), np.uint8)] * 2
    for number, pixels in enumerate(files):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    for preload in (False, True):
        source = FrameSource(str(tmp_path), loop=True, preload=preload)
        assert len(colours(source, 20)) == 20
        few_bits, of_depth, alpha = source.odd
        assert "2.png: none of its numbers of 16 bits" in few_bits
        assert "4.png: its numbers are 0 in holes and nowhere near 0" in of_depth
        assert "6.png: every pixel of the PNG is transparent" in alpha


def test_a_picture_that_exif_turns_is_told_where_there_is_a_calibration(tmp_path: Path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    for name in ("a.jpg", "b.jpg"):
        PIL.Image.new("RGB", (40, 30), "red").save(tmp_path / name, exif=exif)
    source = FrameSource(str(tmp_path), is_calibrated=True)
    assert len(colours(source, 9)) == 2
    (said,) = source.odd
    assert "a.jpg: is turned as its EXIF says; the calibration" in said
    without = FrameSource(str(tmp_path))
    assert len(colours(without, 9)) == 2
    assert without.odd == []


def test_frames_that_do_not_fit_into_memory_are_not_preloaded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Four frames of 30x40 pixels and their messages take 28,800 bytes."""
    monkeypatch.setattr(memory, "affordable", lambda byte_count: 28_799)
    assert colours(FrameSource(str(folder)), 9) == COLOURS
    with pytest.raises(DataError, match=r"its first 4 frames alone take .* set preload to false"):
        FrameSource(str(folder), preload=True)
    monkeypatch.setattr(memory, "affordable", lambda byte_count: 28_800)
    assert colours(FrameSource(str(folder), preload=True), 9) == COLOURS


def test_video_is_read_to_its_end_and_has_a_rate(tmp_path: Path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (40, 32))
    for red, green, blue in COLOURS[:3]:
        writer.write(np.full((32, 40, 3), (blue, green, red), np.uint8))
    writer.release()
    source = FrameSource(str(path))
    found = np.array(colours(source, 99))
    assert source.rate_hz == pytest.approx(12.5)
    assert np.abs(found - np.array(COLOURS[:3])).max() <= 6  # JPEG
    assert len(colours(FrameSource(str(path), loop=True), 7)) == 7


@pytest.mark.parametrize(
    ("told_hz", "used_hz"), [(90000.0, 10.0), (float("nan"), 10.0), (-1.0, 10.0), (0.0, 10.0), (240.0, 240.0)]
)
def test_a_rate_that_no_video_has_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_hz: float, used_hz: float
):
    class Video:
        """Of 2x2 black pixels, with a rate."""

        def __init__(self, _: str) -> None: ...

        def isOpened(self) -> bool:  # noqa: N802 OpenCV's
            return True

        def get(self, what: int) -> float:
            return told_hz if what == cv2.CAP_PROP_FPS else 2.0

    monkeypatch.setattr(cv2, "VideoCapture", Video)
    (tmp_path / "video.avi").touch()
    assert FrameSource(str(tmp_path / "video.avi")).rate_hz == used_hz


def test_unusable_source_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.avi").write_text("not a video")
    with pytest.raises(DataError, match=r"nowhere\.mp4: no such device, video file or folder"):
        FrameSource(str(tmp_path / "nowhere.mp4"))
    (tmp_path / "empty" / "below").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="rtsp://a/b: is an address, and none is opened"):
        FrameSource("rtsp://a/b")
    for name in ("loop", "a" * 300):
        with pytest.raises(DataError, match=r"cannot be looked at .*; set `source`"):
            FrameSource(str(tmp_path / name))
    with pytest.raises(DataError, match="no images in this folder, but 1 folders below"):
        FrameSource(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="cannot be opened as a video"):
        FrameSource(str(tmp_path / "text.avi"))


def test_frames_and_camera_info_arrive_with_equal_headers(folder: Path, tmp_path: Path):
    domain = new_domain()
    settings = {"source": folder, "rate_hz": 50.0, "frame_id": "front_optical", "wait_for_subscribers": 1}
    with participant(domain) as ros:
        infos = ros.collect(CameraInfo, "camera_info")
        images = ros.collect(Image, "image_raw")
        with running("camera_node", domain, tmp_path / "log", **settings) as process:
            ros.wait_for(lambda: len(images) == len(COLOURS), "every frame of the folder")
            assert process.wait() == 0
        ros.wait_for(lambda: len(infos) >= 3, "camera_info")
    assert [tuple(bytes(image.data[:3])) for image in images] == COLOURS
    assert {(i.height, i.width, i.step, i.encoding, i.header.frame_id) for i in images} == {
        (30, 40, 120, "rgb8", "front_optical")
    }
    stamps = [(image.header.stamp.sec, image.header.stamp.nanosec) for image in images]
    assert stamps == sorted(set(stamps))
    assert {(i.header.stamp.sec, i.header.stamp.nanosec) for i in infos} <= set(stamps)
    assert {(info.height, info.width) for info in infos} == {(30, 40)}
    assert "4 frames published" in process.log
    assert "1b.png" in process.log


def test_compressed_frames_are_jpegs_of_the_picture(folder: Path, tmp_path: Path):
    domain = new_domain()
    settings = {"source": folder, "rate_hz": 50.0, "image_transport": "compressed", "wait_for_subscribers": 1}
    with participant(domain) as ros:
        images = ros.collect(CompressedImage, "/front/image/compressed")
        arguments = ("-r", "image_raw:=/front/image")
        with running("camera_node", domain, tmp_path / "log", *arguments, **settings):
            ros.wait_for(lambda: len(images) == len(COLOURS), "every frame of the folder")
    for image, colour in zip(images, COLOURS, strict=True):
        assert np.abs(decode_file_bytes(bytes(image.data)).astype(int) - colour).max() <= 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "/nowhere"}, "/nowhere"),
        ({"source": ".", "rate_hz": -1.0}, "rate_hz"),
        ({"source": "~nobody_of_this_name/a.webm"}, "parameter source: there is no user 'nobody_of_this_name'"),
    ],
)
def test_unusable_setting_ends_the_camera_with_one_line(settings: dict, said: str, tmp_path: Path):
    process = Process("camera_node", new_domain(), tmp_path / "log", **settings)
    assert process.wait() == 2
    assert said in process.log
    assert "Traceback" not in process.log


def test_a_camera_that_has_shown_nothing_ends_with_one_line(tmp_path: Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    process = Process("camera_node", new_domain(), tmp_path / "log", source=tmp_path / "bad", loop=True)
    assert process.wait() == 2
    assert f"error: {tmp_path / 'bad'}: not one of its images could be read" in process.log
    with pytest.raises(ConfigError, match="source is empty"):
        CameraNodeSettings(source="")


def test_camera_resizes_and_publishes_its_calibration(folder: Path, tmp_path: Path):
    domain = new_domain()
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION)
    settings = {"source": folder, "width": 160, "height": 120, "camera_info_url": path, "loop": True}
    with running("camera_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        images = ros.collect(Image, "image_raw")
        infos = ros.collect(CameraInfo, "camera_info")
        ros.wait_for(lambda: images and infos, "an image and its camera_info")
    assert (images[-1].width, images[-1].height) == (infos[-1].width, infos[-1].height) == (160, 120)
    assert infos[-1].k[0] == 125.0  # 500 pixels of 640 are 125 of 160


def test_a_camera_that_waits_for_a_clock_says_so_once_and_goes_on_when_there_is_one(folder: Path, tmp_path: Path):
    domain = new_domain()
    settings = {"source": folder, "loop": True, "use_sim_time": True}
    with running("camera_node", domain, tmp_path / "log", **settings) as process, participant(domain) as ros:
        waits = "the camera waits for /clock, which stands still: nobody publishes it; start or resume"
        ros.wait_for(lambda: waits in process.log, "a word")
        images = ros.collect(Image, "image_raw")
        clock = ros.publisher(Clock, "/clock")
        now = itertools.count(1)

        def comes() -> bool:
            clock.publish(Clock(clock=Time(sec=next(now))))
            return bool(images) and "the camera waits no longer" in process.log

        ros.wait_for(comes, "an image")
        assert process.log.count("the camera waits for") == 1


def test_a_camera_that_waits_for_subscribers_says_how_many_and_who_is_there(folder: Path, tmp_path: Path):
    domain = new_domain()
    settings = {"source": folder, "wait_for_subscribers": 2, "rate_hz": 50.0}
    with participant(domain) as ros, participant(domain) as other:
        images = ros.collect(Image, "image_raw")
        other.collect(CompressedImage, "image_raw")
        with running("camera_node", domain, tmp_path / "log", **settings) as process:
            waits = "the camera waits for 2 subscribers of /image_raw (wait_for_subscribers) and reaches 1 of /test"
            ros.wait_for(lambda: waits in process.log, "a word")
            assert "/test (sensor_msgs/msg/CompressedImage" in process.log
            ros.collect(Image, "image_raw")
            ros.wait_for(lambda: len(images) == len(COLOURS), "every frame of the folder")
            assert process.wait() == 0


def test_device_that_ends_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder stands for the device: what a device shows last is no end that was wanted."""
    frames = FrameSource(str(folder))
    frames.is_device = True
    for _ in COLOURS:
        assert frames.read() is not None
    with pytest.raises(DataError, match="gives no images any more"):
        frames.read()


def test_nothing_of_a_running_camera_can_be_set_and_what_is_unknown_is_said(folder: Path, tmp_path: Path):
    """Another source or calibration would be another file that a stranger has this node read."""
    domain = new_domain()
    settings = {"source": folder, "loop": True, "rate_hz": 20, "rate": 3.0}
    arguments = ("-p", "qos_overrides./image_raw.publisher.dept:=3")
    with running("camera_node", domain, tmp_path / "log", *arguments, **settings) as process:
        with participant(domain) as ros:
            for name, new in (("source", "/etc"), ("camera_info_url", "file:///etc/passwd"), ("rate_hz", 1000.0)):
                request = SetParameters.Request(parameters=[Parameter(name, value=new).to_parameter_msg()])
                (result,) = ros.call(SetParameters, "/camera_node/set_parameters", request).results
                assert (result.successful, "read-only" in result.reason) == (False, True)
        assert "unknown: rate (rate_hz?)" in process.log
        assert "unknown: qos_overrides./image_raw.publisher.dept (qos_overrides" in process.log


def test_a_device_is_named_by_its_number_as_it_is_typed(tmp_path: Path):
    """YAML reads `-p source:=9999` as a number; there is no such camera, which is said of its device."""
    process = Process("camera_node", new_domain(), tmp_path / "log", source=9999)
    assert process.wait() == 2
    assert "9999 (/dev/video9999): cannot be opened as a camera" in process.log
    assert "Traceback" not in process.log


def test_video_of_huge_frames_is_refused_before_one_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()
    monkeypatch.setattr("cnn_perception.image.raw.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(DataError, match="64x48 pixels"):
        FrameSource(str(tmp_path / "a.avi"))


def test_the_shared_memory_of_a_killed_node_is_removed_by_the_next_one(folder: Path, tmp_path: Path):
    domain = new_domain()
    settings = {"source": folder, "rate_hz": 20.0, "loop": True}
    with participant(domain) as ros:
        images = ros.collect(Image, "image_raw")
        process = Process("camera_node", domain, tmp_path / "killed", **settings)
        try:
            ros.wait_for(lambda: images, "an image")
            segments = [lock.with_name(lock.name.removesuffix("_el")) for lock in locked_by(process)]
        finally:
            process.signal(signal.SIGKILL)
            process.wait()
        assert segments
        for path in segments:
            with contextlib.suppress(FileNotFoundError):  # a node of another test was quicker
                os.utime(f"{path}_el", (0, 0))  # as of a node that did not start just now
        with running("camera_node", domain, tmp_path / "next", frame_id="next", **settings):
            ros.wait_for(lambda: images[-1].header.frame_id == "next", "an image of the next one")
            assert not any(path.exists() for path in segments)


def locked_by(process: Process) -> list[Path]:
    """The files beside shared-memory segments that Fast DDS locks for a process. Source: man 5 proc, /proc/locks."""
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line]
    inodes = {int(words[5].split(":")[2]) for words in held if int(words[4]) == process.pid}
    return [path for path in transport.SHARED_MEMORY.glob(transport.LOCKS) if path.stat().st_ino in inodes]


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_remapping_is_applied_once(folder: Path, tmp_path: Path, transport: str):
    """A second time it would take the images to /third."""
    domain = new_domain()
    kind, end = (CompressedImage, "/compressed") if transport == "compressed" else (Image, "")
    rules = [
        f"/{one}/image_raw{end}:=/{other}/image_raw{end}" for one, other in (("first", "second"), ("second", "third"))
    ]
    arguments = ["-r", "__ns:=/first", *[word for rule in rules for word in ("-r", rule)]]
    settings = {"source": folder, "loop": True, "rate_hz": 50.0, "image_transport": transport}
    with (
        running("camera_node", domain, tmp_path / "log", *arguments, **settings) as process,
        participant(domain) as ros,
    ):
        received = {topic: ros.collect(kind, f"/{topic}/image_raw{end}") for topic in ("first", "second", "third")}
        infos = ros.collect(CameraInfo, "/second/camera_info")
        ros.wait_for(lambda: infos and any(received.values()), "images and their calibration")
        assert [topic for topic, images in received.items() if images] == ["second"]
        assert f"Hz on /second/image_raw{end}" in process.log
