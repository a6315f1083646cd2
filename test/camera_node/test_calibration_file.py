"""Owns: the calibration files that camera_node reads: where they are found, what they say, and which are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from calibrations import CALIBRATION
from ros import Process, new_domain
from sensor_msgs.msg import CameraInfo

from cnn_perception.camera_node import calibration_file
from cnn_perception.errors import ConfigError


def read_calibration(url: str, width: int, height: int) -> CameraInfo:
    """As the node does it: read at start, fitted to its images once they come."""
    return calibration_file.fitted(calibration_file.read_calibration(url), url, width, height)


def test_calibration_is_scaled_with_the_images(tmp_path: Path):
    """A point of space lies at the same share of the image's width and height, counted from its corner at -0.5."""
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION)
    point = np.array([[0.3, -0.2, 1.5]])
    pixels = {}
    for width in (640, 320):
        info = read_calibration(path.as_uri(), width, width * 3 // 4)
        matrix = np.array(info.k).reshape(3, 3)
        distortion = np.array(info.d)
        ((u, v),) = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, distortion)[0].reshape(-1, 2)
        pixels[width] = ((u + 0.5) / width, (v + 0.5) / info.height)
        x, y, w = np.array(info.p).reshape(3, 4) @ [*point[0], 1.0]
        pixels[-width] = ((x / w + 0.5) / width, (y / w + 0.5) / info.height)
    assert pixels[320] == pytest.approx(pixels[640])
    assert pixels[-320] == pytest.approx(pixels[-640])


@pytest.mark.parametrize("line", ["", "distortion_model:\n", "camera_model: plumb_bob\n"])
def test_a_file_that_names_no_distortion_model_is_of_a_plumb_bob_as_in_ros(line: str, tmp_path: Path):
    named = CALIBRATION.replace("distortion_model: plumb_bob\n", line)
    assert named != CALIBRATION
    infos = []
    for number, text in enumerate((CALIBRATION, named)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        infos.append(calibration_file.read_calibration(str(path)))
    assert infos[0].distortion_model == "plumb_bob"
    assert infos[0] == infos[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("{", "cannot be read"), ("a: 1", "no calibration"), ("[1]", "no calibration"),
     (CALIBRATION.replace("1.0, 0.0, 0.0, 0.0, 1.0, 0.0", "1.0"), "no calibration"),
     (CALIBRATION.replace("480", "400", 1), "calibrate again"),
     ("a: 2001-13-99", "cannot be read"), ("a: !!float x", "cannot be read"), ("[" * 3000, "cannot be read"),
     ("a: !!bool x", "cannot be read"), ("a: !!timestamp x", "cannot be read"), ("!!null {[a]: 1}", "cannot be read"),
     (CALIBRATION.replace("1.0, 0.0, 0.0, 0.0, 1.0, 0.0", f"1{'0' * 400}, 0, 0, 0, 1, 0"), "no calibration")],
)  # fmt: skip
def test_unusable_calibration_is_refused_by_name(text: str | None, words: str, tmp_path: Path):
    path = tmp_path / "front.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"front.yaml.*{words}"):
        read_calibration(str(path), 320, 240)


@pytest.fixture
def my_robot(tmp_path: Path, monkeypatch) -> Path:
    """The share folder of an installed package, and a calibration in it, in ROS_HOME and in the home folder."""
    share = tmp_path / "a prefix" / "share"
    index = share / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "my_robot").touch()
    for folder in (share / "my_robot" / "config", tmp_path / "ros home", tmp_path / "home" / ".ros"):
        folder.mkdir(parents=True)
        (folder / "front.yaml").write_text(CALIBRATION)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "a prefix"))
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    "url",
    [
        "package://my_robot/config/front.yaml",
        "package://my_robot//config/front.yaml",
        "file://${ROS_HOME}/front.yaml",
        "${ROS_HOME}/front.yaml",
        "file:///{here}/ros%20home/front.yaml",
        "file:{here}/ros%20home/front.yaml",
        "{here}/ros home/front.yaml",
        "~/.ros/front.yaml",
        "file://~/.ros/front.yaml",
    ],
)
def test_calibration_is_found_where_camera_info_manager_finds_it(url: str, my_robot: Path):
    assert read_calibration(url.replace("{here}", str(my_robot)), 640, 480).k[0] == 500.0


@pytest.mark.parametrize("name", ["run#3.yaml", "run?3.yaml", "50%20off.yaml", "100%.yaml", "a b.yaml", "é;x=1&y.yaml"])
@pytest.mark.parametrize(
    "url", ["file://{here}", "FILE://{here}", "file:{here}", "package://my_robot/{name}", "{here}"]
)
def test_what_means_something_in_an_address_of_the_web_is_part_of_a_files_name(url: str, name: str, my_robot: Path):
    folder = my_robot / "a prefix/share/my_robot" if url.startswith("package") else my_robot
    (folder / name).write_text(CALIBRATION)
    assert read_calibration(url.format(here=folder / name, name=name), 640, 480).k[0] == 500.0


def test_a_name_as_it_is_typed_comes_before_what_it_is_once_decoded(tmp_path: Path):
    (tmp_path / "a%20b.yaml").write_text(CALIBRATION)
    (tmp_path / "a b.yaml").write_text("no calibration")
    assert read_calibration((tmp_path / "a%20b.yaml").as_posix(), 640, 480).k[0] == 500.0
    assert read_calibration(f"file://{tmp_path}/a%20b.yaml", 640, 480).k[0] == 500.0


def test_without_ros_home_it_is_in_the_home_folder(my_robot: Path, monkeypatch):
    monkeypatch.delenv("ROS_HOME")
    assert read_calibration("file://${ROS_HOME}/front.yaml", 640, 480).k[0] == 500.0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("package://no_robot/front.yaml", "package 'no_robot' is not installed here"),
        ("package://", "package '' is not installed here"),
        ("package://my_robot/gone.yaml", "No such file"),
        ("file://${NAME}/front.yaml", r"only \$\{ROS_HOME\} is known"),
        ("flash:///front.yaml", "flash:// is not known"),
        ("https://here/front.yaml", "https:// is not known"),
        ("front\0.yaml", "cannot be read"),
        ("file:///front\0.yaml", "cannot be read"),
        ("file:///there/is%20none.yaml", "No such file"),
        ("FLASH:///front.yaml", "FLASH:// is not known"),
    ],
)
def test_url_that_leads_nowhere_is_refused_with_the_reason(url: str, words: str, my_robot: Path):
    with pytest.raises(ConfigError, match=f"^camera_info_url .*{words}"):
        read_calibration(url, 640, 480)


@pytest.mark.parametrize("url", ["~nobody_of_this_name/a.yaml", "file:~nobody_of_this_name/a.yaml"])
def test_a_calibration_in_the_home_of_nobody_is_refused_by_name(url: str):
    with pytest.raises(ConfigError, match=r"^camera_info_url .*there is no user 'nobody_of_this_name'"):
        read_calibration(url, 320, 240)


@pytest.mark.parametrize(
    "text",
    [
        CALIBRATION.replace("plumb_bob", "&a [&b [x], *b, *b]"),
        "a: &a [x, x]\nb: &b [*a, *a]\n" + CALIBRATION,
        "a: &a {x: 1}\nb:\n  <<: *a\n" + CALIBRATION,
        CALIBRATION + "more: " + "[" * 5000 + "]" * 5000,
        CALIBRATION + "#" * 2**20,
    ],
)
def test_calibration_that_would_fill_the_memory_is_refused(text: str, tmp_path: Path):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_calibration(str(tmp_path / "camera.yaml"), 640, 480)


def test_calibration_that_never_ends_is_refused():
    with pytest.raises(ConfigError, match="no regular file"):
        read_calibration("/dev/zero", 640, 480)


OF_VIDERE = """
# oST version 5.0 parameters


[image]

width
640

height
480

[narrow_stereo/left]

camera matrix
500.00000 0.00000 330.00000
0.00000 510.00000 250.00000
0.00000 0.00000 1.00000

distortion
-0.20000 0.05000 0.00100 -0.00200 0.00000

rectification
1.00000 0.00000 0.00000
0.00000 1.00000 0.00000
0.00000 0.00000 1.00000

projection
480.00000 0.00000 331.00000 -40.00000
0.00000 490.00000 251.00000 0.00000
0.00000 0.00000 1.00000 0.00000
"""


@pytest.mark.parametrize("name", ["front.ini", "ost.txt", "front.INI"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_an_ini_file_says_what_the_yaml_of_the_same_camera_says(name: str, encoding: str, tmp_path: Path):
    (tmp_path / "front.yaml").write_text(CALIBRATION)
    (tmp_path / name).write_text(OF_VIDERE, encoding=encoding)
    found = calibration_file.read_calibration(str(tmp_path / name))
    assert found == calibration_file.read_calibration(str(tmp_path / "front.yaml"))
    assert found.distortion_model == "plumb_bob"


def test_an_ini_file_with_eight_coefficients_is_of_a_rational_polynomial(tmp_path: Path):
    (tmp_path / "a.ini").write_text(OF_VIDERE.replace("-0.00200 0.00000\n", "-0.00200 0.1 0.2 0.3 0.4\n"))
    found = calibration_file.read_calibration(str(tmp_path / "a.ini"))
    assert (found.distortion_model, list(found.d)) == (
        "rational_polynomial",
        [-0.2, 0.05, 0.001, -0.002, 0.1, 0.2, 0.3, 0.4],
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "without width, height, camera matrix"),
        (OF_VIDERE.replace("projection", "projektion"), "without projection"),
        (OF_VIDERE.replace("-0.00200 0.00000\n", "\n"), "distortion has 3 numbers in place of 5 or 8"),
        (OF_VIDERE + OF_VIDERE[OF_VIDERE.index("[narrow") :], "there twice; write a file for each camera"),
        (OF_VIDERE.replace("510.00000", "many"), "9 numbers|is no calibration"),
        (OF_VIDERE.replace("510.00000", "nan"), "K has NaN or Inf"),
        (CALIBRATION, "without width"),
    ],
)
def test_an_unusable_ini_file_is_refused_with_the_reason(text: str, words: str, tmp_path: Path):
    (tmp_path / "a.ini").write_text(text)
    with pytest.raises(ConfigError, match=f"^camera_info_url .*{words}"):
        calibration_file.read_calibration(str(tmp_path / "a.ini"))


@pytest.mark.parametrize("suffix", ["yml", "xml"])
def test_what_opencv_writes_is_refused_by_name_with_what_to_do(suffix: str, tmp_path: Path):
    path = tmp_path / f"a.{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("camera_matrix", np.eye(3))
    storage.release()
    texts = [path.read_text(), "%YAML:1.0\n---\nimage_width: 40\n"]  # the second as OpenCV before version 5
    for text in texts:
        path.write_text(text)
        with pytest.raises(ConfigError, match="a FileStorage of OpenCV; write the YAML of camera_calibration"):
            calibration_file.read_calibration(str(path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("-0.2, 0.05", ".nan, 0.05", "D has NaN or Inf"),
        ("[500.0", "[.inf", "K has NaN or Inf"),
        ("-40.0", ".nan", "P has NaN or Inf"),
        ("[1.0, 0.0, 0.0, 0.0", "[.nan, 0.0, 0.0, 0.0", "R has NaN or Inf"),
        ("[500.0", "[-500.0", "K is no camera matrix"),
        ("510.0, 250.0, 0.0, 0.0, 1.0", "510.0, 250.0, 0.0, 0.0, 2.0", "K is no camera matrix"),
        ("[480.0", "[-480.0", "P is no camera matrix"),
        ("[1.0, 0.0, 0.0, 0.0", "[2.0, 0.0, 0.0, 0.0", "R is no rotation"),
        ("330.0", "3300.0", "principal point at \\(3300, 250\\)"),
        ("[500.0, 0.0, 330.0, 0.0, 510.0", "[5e6, 0.0, 330.0, 0.0, 5e6", "which no lens has"),
        ("image_width: 640", "image_width: 0", "without pixels"),
        ("image_width: 640", "image_width: -640", "without pixels"),
    ],
)
def test_numbers_that_no_camera_has_are_refused_in_one_line(old: str, new: str, words: str, tmp_path: Path):
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION.replace(old, new, 1))
    assert path.read_text() != CALIBRATION
    with pytest.raises(ConfigError, match=f"^camera_info_url .*{words}") as refused:
        calibration_file.read_calibration(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("last", ["0.0", "1.0"])
def test_an_uncalibrated_camera_and_a_model_that_is_not_known_here_are_published(last: str, tmp_path: Path):
    zero = "[0.0, 0, 0, 0, 0, 0, 0, 0, " + last + "]"
    text = CALIBRATION.replace("[500.0, 0.0, 330.0, 0.0, 510.0, 250.0, 0.0, 0.0, 1.0]", zero)
    path = tmp_path / "front.yaml"
    path.write_text(text)
    assert not np.any(calibration_file.read_calibration(str(path)).k[:8])
    path.write_text(CALIBRATION.replace("plumb_bob", "double_sphere"))
    assert calibration_file.read_calibration(str(path)).distortion_model == "double_sphere"


def test_a_calibration_that_cannot_be_ends_the_camera_before_anybody_subscribes(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "front.yaml").write_text(CALIBRATION.replace("-0.2, 0.05", ".nan, 0.05"))
    settings = {"source": tmp_path, "camera_info_url": tmp_path / "front.yaml", "wait_for_subscribers": 1}
    process = Process("camera_node", new_domain(), tmp_path / "log", **settings)
    assert process.wait() == 2
    assert "D has NaN or Inf" in process.log
    assert "Traceback" not in process.log
