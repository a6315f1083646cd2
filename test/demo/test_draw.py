"""The demo's drawn world: reproducible, truthfully labelled, and never half there.

What the pictures show is judged by an oracle that shares nothing with the renderer: the hue and the darkness of
the pixels where the sign should be.
"""

from __future__ import annotations

import csv
import itertools
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError, DataError
from demo.draw import CLASSES, STAMP, draw_dataset, draw_drive, draw_sample, main
from demo.scene import View
from demo.shots import Drive, DriveSettings, random_shot
from demo.signs import SIGNS, draw_sign

HEIGHT, WIDTH = 96, 128
RED, BLUE = (0.0, 120.0)  # hues as OpenCV counts them, degrees / 2
HUE = dict.fromkeys(("no_entry", "stop", "yield", "speed_30", "speed_60"), RED)
HUE |= dict.fromkeys(("turn_left", "turn_right", "pedestrian_crossing"), BLUE)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tiny(output: Path, seed: int = 0, train: int = 2) -> Path:
    return draw_dataset(output, train, 1, seed, height=48, width=64, processes=1)


def tiny_drive(output: Path, seed: int = 0, processes: int = 1) -> Path:
    return draw_drive(output, 4.0, 10.0, seed, height=48, width=64, processes=processes)


def tallness(box: np.ndarray) -> float:
    """Mean length of the left and the right side of a quadrangle, pixels."""
    return float(np.linalg.norm(box[[3, 2]] - box[[0, 1]], axis=1).mean())


def sign_hue(image: np.ndarray, box: np.ndarray) -> tuple[float, float]:
    """Share of strongly coloured pixels in the middle of a quadrangle that are red, and that are blue."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(box.mean(0) + (box - box.mean(0)) * 0.8).astype(np.int32), 1)
    hue, saturation, _ = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[mask > 0].astype(float).T
    hue = hue[saturation > 70]
    away = [np.abs((hue - centre + 90) % 180 - 90) < 18 for centre in (RED, BLUE)]
    return (float(away[0].mean()), float(away[1].mean())) if hue.size else (0.0, 0.0)


def test_classes_are_sorted_as_an_image_folder_sorts_them():
    assert list(CLASSES) == sorted(CLASSES)
    assert len(set(CLASSES)) == 9
    assert set(CLASSES) == {*SIGNS, "clear_road"}


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_is_premultiplied_and_fills_its_square(name: str):
    sprite = draw_sign(name).astype(int)
    rows, columns = np.nonzero(sprite[..., 3] > 128)
    assert (sprite[..., :3] <= sprite[..., 3:]).all()
    assert np.ptp(columns) > 0.95 * sprite.shape[1]
    assert np.ptp(rows) > 0.88 * sprite.shape[0]


def test_turn_left_is_turn_right_in_a_mirror():
    assert np.abs(draw_sign("turn_left")[:, ::-1].astype(int) - draw_sign("turn_right")).mean() < 1.0


def test_the_arrow_of_turn_right_points_right():
    white = draw_sign("turn_right")[..., 0] > 128
    inside = white & (np.hypot(*np.mgrid[-1:1:256j, -1:1:256j]) < 0.88)
    tip = inside[90:130].any(0).nonzero()[0]
    assert tip.max() - 128 > 128 - tip.min() + 20


def test_a_sample_has_the_size_asked_for_and_is_rgb():
    image = draw_sample("stop", np.random.default_rng(5), 60, 100)
    assert image.shape == (60, 100, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10


def test_the_same_seed_draws_the_same_bytes_with_one_process_or_two(tmp_path: Path):
    alone = contents(tiny_drive(tmp_path / "a"))
    together = contents(tiny_drive(tmp_path / "b", processes=2))
    assert alone == together
    assert contents(tiny(tmp_path / "c")) == contents(tiny(tmp_path / "d"))


def test_another_seed_draws_other_pictures(tmp_path: Path):
    first = contents(tiny(tmp_path / "a", seed=0))
    second = contents(tiny(tmp_path / "b", seed=1))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_training_and_validation_share_no_picture(tmp_path: Path):
    pictures = [data for name, data in contents(tiny(tmp_path / "a")).items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures) == 9 * 3


def test_a_data_set_has_every_class_in_both_splits(tmp_path: Path):
    folder = draw_dataset(tmp_path / "deep" / "set", 3, 2, 0, height=48, width=64, processes=1)
    for split, images in (("train", 3), ("val", 2)):
        assert sorted(p.name for p in (folder / split).iterdir()) == list(CLASSES)
        for name in CLASSES:
            files = sorted((folder / split / name).iterdir())
            assert [f.name for f in files] == [f"{i:06d}.jpg" for i in range(images)]
            assert all(cv2.imread(str(f)).shape == (48, 64, 3) for f in files)


def test_a_tiny_data_set_is_drawn_in_no_time(tmp_path: Path):
    start = time.process_time()
    tiny(tmp_path / "a", train=7)
    assert time.process_time() - start < 6  # 1.5 s on an idle machine


@pytest.mark.parametrize("name", SIGNS)
def test_the_sign_of_a_sample_has_its_colour_where_it_should_be(name: str):
    agree = []
    for seed in range(12):
        shot = random_shot(name, np.random.default_rng(seed), HEIGHT, WIDTH)
        assert shot.board is not None
        assert shot.board.name == name
        image = draw_sample(name, np.random.default_rng(seed), HEIGHT, WIDTH)
        red, blue = sign_hue(image, shot.view.project(shot.board.corners()))
        agree.append((red > blue) == (HUE[name] == RED))
    assert np.mean(agree) >= 0.9


def test_the_sign_of_a_sample_covers_a_quarter_to_three_quarters_of_the_height():
    shares = []
    for seed in range(60):
        shot = random_shot("stop", np.random.default_rng(seed), HEIGHT, WIDTH)
        assert shot.board is not None
        box = shot.view.project(shot.board.corners())
        shares.append(tallness(box) / HEIGHT)
        middle = box.mean(0)
        assert 0 < middle[0] < WIDTH
        assert 0 < middle[1] < HEIGHT
    assert 0.2 < min(shares) < 0.3
    assert 0.7 < max(shares) < 0.85


def test_a_clear_road_has_no_board():
    assert all(random_shot("clear_road", np.random.default_rng(i), 48, 64).board is None for i in range(9))


def test_a_point_is_projected_as_a_pinhole_does():
    view = View(height=480, width=640, focal=720.0, horizon=270.0, centre=240.0, eye=1.4, z=10.0, bend=0.0)
    pixels = view.project(np.array([[0.5, 2.4, 12.0], [0.0, 0.0, 13.6]]))
    # 0.5 m / 2 m * 720 = 180 to the right, 1 m / 2 m * 720 = 360 up; the ground 3.6 m ahead is 1.4 / 3.6 * 720 down
    np.testing.assert_allclose(pixels, [[420.0, -90.0], [240.0, 550.0]])


def test_labels_cover_the_drive_without_gap_or_overlap(tmp_path: Path):
    folder = tiny_drive(tmp_path / "drive")
    with (folder / "labels.csv").open(newline="") as file:
        assert file.readline().strip() == "start_s,end_s,class"
        rows = [(float(start), float(end), name) for start, end, name in csv.reader(file)]
    assert rows[0][0] == 0.0
    assert rows[-1][1] == 4.0
    assert all(start < end for start, end, _ in rows)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(rows))
    assert {name for _, _, name in rows} == set(CLASSES)
    assert all((name == "clear_road") == (i % 2 == 0) for i, (_, _, name) in enumerate(rows))
    # no boundary is near a frame's stamp, where a jitter could cross it
    assert all(abs(start * 10 - round(start * 10)) > 0.4 for start, _, _ in rows[1:])


def test_a_drive_has_all_its_frames_in_order(tmp_path: Path):
    frames = sorted((tiny_drive(tmp_path / "drive") / "frames").iterdir())
    assert [f.name for f in frames] == [f"{i:06d}.jpg" for i in range(40)]
    assert cv2.imread(str(frames[7])).shape == (48, 64, 3)


def test_a_frame_shows_the_sign_that_its_label_names(tmp_path: Path):
    settings = DriveSettings(4.0, 10.0, 3, 240, 320)
    folder = draw_drive(tmp_path / "drive", 4.0, 10.0, 3, height=240, width=320, processes=1)
    drive = Drive(settings)
    rows = list(csv.DictReader((folder / "labels.csv").open(newline="")))
    for frame in range(40):
        label = next(r["class"] for r in rows if float(r["start_s"]) <= frame / 10 < float(r["end_s"]))
        shot = drive.shot(frame)
        assert label == ("clear_road" if shot.board is None else shot.board.name)
        if shot.board is not None:
            image = cv2.cvtColor(cv2.imread(str(folder / "frames" / f"{frame:06d}.jpg")), cv2.COLOR_BGR2RGB)
            red, blue = sign_hue(image, shot.view.project(shot.board.corners()))
            assert (red > blue) == (HUE[label] == RED), (frame, label)


def test_a_sign_of_the_drive_grows_from_a_quarter_to_three_quarters_and_moves_outwards():
    drive = Drive(DriveSettings(24.0, 10.0, 0, 480, 640))
    for stop in drive.stops:
        boxes = []
        for frame in range(stop.shown, stop.end):
            shot = drive.shot(frame)
            assert shot.board is not None
            boxes.append(shot.view.project(shot.board.corners()))
        heights = np.array([tallness(box) for box in boxes]) / 480
        assert 0.22 <= heights[0] < 0.27
        assert 0.70 < heights[-1] < 0.80
        assert (np.diff(heights[1:-1]) > 0).all()
        assert boxes[-1][:, 0].mean() > boxes[0][:, 0].mean() + 50


def test_a_long_drive_shows_every_sign_before_one_comes_back():
    names = [stop.name for stop in Drive(DriveSettings(60.0, 10.0, 1, 48, 64)).stops]
    assert len(names) == 20
    assert set(names[:8]) == set(names[8:16]) == set(SIGNS)


def test_signs_come_as_often_as_is_asked_for():
    stops = Drive(DriveSettings(30.0, 10.0, 1, 48, 64, sign_s=1.0)).stops

    assert [(stop.start, stop.shown, stop.end) for stop in stops] == [
        (10 * n, 10 * n + 3, 10 * n + 10) for n in range(30)
    ]


def test_neighbouring_frames_are_nearly_alike():
    settings = DriveSettings(24.0, 10.0, 0, 96, 128)
    drive = Drive(settings)
    here, next_, far = (drive.shot(i).view.z for i in (30, 31, 60))
    assert 0 < next_ - here < 0.3
    assert far - here == pytest.approx(30 * (next_ - here))


def test_a_drive_too_short_for_its_signs_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="at least 24"):
        draw_drive(tmp_path / "drive", 2.3, 10.0, 0)
    assert draw_drive(tmp_path / "drive", 2.4, 10.0, 0, height=24, width=32, processes=1).is_dir()


@pytest.mark.parametrize(
    ("seconds", "rate_hz"), [(0.0, 10.0), (-1.0, 10.0), (float("nan"), 10.0), (24.0, float("inf"))]
)
def test_a_drive_of_no_length_is_refused(tmp_path: Path, seconds: float, rate_hz: float):
    with pytest.raises(ConfigError, match="a drive of"):
        draw_drive(tmp_path / "drive", seconds, rate_hz, 0)


def test_what_was_drawn_with_the_same_settings_is_kept(tmp_path: Path):
    folder = tiny(tmp_path / "set")
    (folder / "mark").touch()
    assert tiny(tmp_path / "set") == folder
    assert (folder / "mark").exists()


def test_what_was_drawn_with_other_settings_is_replaced(tmp_path: Path):
    folder = tiny(tmp_path / "set")
    (folder / "mark").touch()
    tiny(tmp_path / "set", train=3)
    assert not (folder / "mark").exists()
    assert len(list((folder / "train" / "stop").iterdir())) == 3


def test_a_folder_of_the_user_is_never_overwritten(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(DataError, match="not drawn by"):
        tiny(tmp_path / "set")
    assert contents(tmp_path / "set") == {"holiday.jpg": b"dear"}


def test_a_full_disk_leaves_no_half_drawn_set_and_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(tiny(tmp_path / "set"))
    write = Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if path.name == "000001.jpg":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(DataError, match="No space left"):
        tiny(tmp_path / "set", seed=7)
    with pytest.raises(DataError, match="No space left"):
        tiny(tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert contents(tmp_path / "set") == before


def test_a_set_left_half_drawn_by_a_kill_is_drawn_again(tmp_path: Path):
    half = tmp_path / ".set.part" / "train" / "stop"
    half.mkdir(parents=True)
    (half / "999999.jpg").write_bytes(b"half")
    folder = tiny(tmp_path / "set")
    assert not (folder / "train" / "stop" / "999999.jpg").exists()
    assert (folder / STAMP).is_file()
    assert not (tmp_path / ".set.part").exists()


def test_the_command_says_one_line_and_exits_2_on_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--output", str(tmp_path), "--train", "0"]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == "error: 0 training and 40 validation images a class; draw at least 1 of each\n"
