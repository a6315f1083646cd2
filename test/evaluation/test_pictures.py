"""Owns: what evaluate_bag says of odd pictures, and what --encoding and --significant-bits change. The model names the
dominant colour.

Leaves to others: how such pictures are decoded (test_overrides, test_jpeg).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from evaluating import SECOND, run
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from tiny_bag import START_NS
from tiny_model import write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK

RED_MOST = np.full((30, 40, 3), (200, 10, 20), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def bag_of(folder: Path, numbers: np.ndarray, encoding: str, count: int = 5) -> Path:
    """A bag of one picture of numbers of 8 or 16 bits."""
    kind = type(tiny_bag.raw(RED_MOST, 0))
    messages = []
    for index in range(count):
        stamp_ns = START_NS + index * SECOND // 10
        data = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1)
        step = data.size // numbers.shape[0]
        image = kind(tiny_bag.header(stamp_ns), *numbers.shape[:2], encoding, 0, step, data)
        messages.append(("/camera", stamp_ns, image))
    return tiny_bag.write_bag(folder / "bag", messages)


def deep(bits: int) -> np.ndarray:
    return np.rint(RED_MOST * ((2**bits - 1) / 255)).astype("<u2")


@pytest.mark.parametrize("label", ["8UC3", "BGR8", "rgb8"])
def test_encoding_decides_what_the_pixels_are(tmp_path: Path, model: Path, label: str):
    bag = bag_of(tmp_path, RED_MOST[..., ::-1], label)
    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video", "--encoding", "bgr8")
    assert code == EXIT_OK
    assert {row["predicted"] for row in rows} == {"red"}
    assert (report["encoding"], report["significant_bits"]) == ("bgr8", 0)


def test_significant_bits_make_the_scores_those_of_16_bits(tmp_path: Path, model: Path, capsys):
    scores = {}
    for bits in (16, 12):
        bag = bag_of(tmp_path / str(bits), deep(bits), "rgb16")
        options = ["--significant-bits", bits] if bits == 12 else []
        code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video", *options)
        assert code == EXIT_OK
        assert report["warnings"] == []
        scores[bits] = float(rows[0]["score"])
    assert scores[12] == pytest.approx(scores[16], abs=1e-3)
    assert "warning" not in capsys.readouterr().err


def test_numbers_of_few_bits_are_told_but_evaluated(tmp_path: Path, model: Path, capsys):
    bag = bag_of(tmp_path, deep(12), "rgb16")
    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")
    assert code == EXIT_OK
    assert len(rows) == 5
    (warning,) = report["warnings"]
    assert "few_bits" in warning
    assert "--significant-bits" in warning
    assert f"warning: {warning}" in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What is odd<" in page


@pytest.mark.parametrize(("count", "is_told"), [(20, False), (21, True)])
def test_pictures_of_a_recording_that_stand_still_are_told(tmp_path: Path, model: Path, count: int, is_told: bool):
    noise = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    bag = bag_of(tmp_path, noise, "rgb8", count)  # ten a second
    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")
    assert code == EXIT_OK
    assert [text.startswith("1 frames: picture_frozen: ") for text in report["warnings"]] == [True] * is_told


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--encoding", "BGR8"], "error: --encoding is 'BGR8'; choose '' or one of rgb8"),
        (["--significant-bits", "3"], "error: --significant-bits is 3; choose 0 for all, or 8 to 16"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(
    tmp_path: Path, model: Path, capsys, options: list[str], text: str
):
    bag = bag_of(tmp_path, RED_MOST, "rgb8")
    code, _, _ = run(tmp_path, model, "--bag", bag, "--labels", "", *options)
    assert code == EXIT_BAD_INPUT
    assert text in capsys.readouterr().err


def test_bits_of_a_folder_of_16_bit_pictures(tmp_path: Path, model: Path):
    (tmp_path / "images" / "red").mkdir(parents=True)
    mosaic = np.tile(np.array([[4000, 10], [10, 10]], np.uint16), (15, 20))
    Image.fromarray(mosaic).save(tmp_path / "images" / "red" / "1.png")
    options = ["--significant-bits", 12, "--encoding", "bayer_rggb16"]
    code, _, rows = run(tmp_path, model, "--images", tmp_path / "images", *options)
    assert code == EXIT_OK
    assert rows[0]["predicted"] == "red"
    assert float(rows[0]["score"]) > 0.9


def test_a_bag_of_jpegs_with_stray_bytes_is_evaluated_and_told(tmp_path: Path, model: Path):
    message = tiny_bag.compressed(RED_MOST, START_NS)
    message.data = np.concatenate([message.data[:-2], np.array([0x12, 0x34], np.uint8), message.data[-2:]])
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera/compressed", START_NS, message)])
    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")
    assert code == EXIT_OK
    assert [row["predicted"] for row in rows] == ["red"]
    assert report["warnings"][0].startswith("1 frames: jpeg_warning: ")
    assert report["complete"] is True


def test_messages_that_only_a_lenient_reader_takes_are_answered_as_on_the_robot_and_told(tmp_path: Path, model: Path):
    good = tiny_bag.payload(tiny_bag.raw(RED_MOST, START_NS))
    odd = [good.replace(b"camera", b"cam\xe9ra"), good + bytes(64), good.replace(b"\0\1", b"\0\7", 1)]
    messages = [(1, START_NS + n * SECOND // 10, payload) for n, payload in enumerate([good, *odd])]
    bag = tiny_bag.McapWriter([tiny_bag.CAMERA], messages).write(tmp_path / "bag.mcap")
    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")
    assert code == EXIT_OK
    assert [row["predicted"] for row in rows] == ["red"] * 4
    assert report["frames"]["bad"] == {}
    assert report["complete"] is True
    (warning,) = [line for line in report["warnings"] if "standard" in line]
    assert "/camera: 3 of 4 messages are not serialised as the standard demands" in warning
    assert "(bytes behind the message, frame_id is no UTF-8, representation 7 in place of CDR)" in warning


@pytest.mark.parametrize(
    ("type_name", "advice"),
    [
        ("foxglove_msgs/msg/CompressedVideo", "ros2 run image_transport republish"),
        ("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "ros2 run image_transport republish"),
        ("foxglove_msgs/msg/CompressedImage", "convert it to sensor_msgs/CompressedImage or Image"),
    ],
)
def test_a_bag_of_video_is_refused_with_the_way_out(tmp_path: Path, model: Path, capsys, type_name: str, advice: str):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/video", type_name, msgdef="uint8[] data\n", rihs01="RIHS01_" + "0" * 64)
        writer.write(topic, START_NS, b"\0\1\0\0" + (3).to_bytes(4, "little") + b"abc")
    code, _, _ = run(tmp_path, model, "--bag", tmp_path / "bag", "--labels", "")
    assert code == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert f"/video: {type_name}" in said
    assert advice in said


def test_a_table_of_another_tool_and_machine_is_read_as_training_reads_it(tmp_path: Path, model: Path):
    (tmp_path / "images" / "red").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(RED_MOST).save(tmp_path / "images" / "red" / f"{number}.png")
    lines = [";File Name;label", *(f"{n};C:\\Users\\me\\red\\{n}.png;red" for n in range(3))]
    (tmp_path / "table.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    options = ("--labels", tmp_path / "table.csv", "--no-video")
    code, report, _ = run(tmp_path, model, "--images", tmp_path / "images", *options)
    assert code == EXIT_OK
    assert report["frames"]["scored"] == 3
