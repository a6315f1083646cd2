"""Owns: what the doctor says of the machine, its packages and a model file. Leaves to others: topics and nodes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from doctor_parts import PROFILE, lines, only
from tiny_model import write_tiny_model

from cnn_perception.doctor import machine
from cnn_perception.doctor.finding import Finding, exit_code_of


def test_a_finding_is_one_line_and_any_failure_is_the_users_to_mend():
    fine = Finding("ok", "cv2", "5.0")
    doubtful = Finding("warn", "a b", "two\n  lines", "mend it")
    assert [str(fine), str(doubtful)] == ["ok    cv2: 5.0", "warn  a b: two lines -> mend it"]
    assert exit_code_of([fine, doubtful]) == 0
    assert exit_code_of([fine, Finding("FAIL", "a", "b"), doubtful]) == 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "ok    ROS_DOMAIN_ID: not set, so 0"),
        ({"ROS_DOMAIN_ID": "7"}, "ok    ROS_DOMAIN_ID: 7;"),
        ({"ROS_DOMAIN_ID": "102"}, "warn  ROS_DOMAIN_ID: 102 can collide"),
        ({"ROS_DOMAIN_ID": "233"}, "FAIL  ROS_DOMAIN_ID: '233' is no domain"),
        ({"ROS_DOMAIN_ID": "-1"}, "FAIL  ROS_DOMAIN_ID: '-1' is no domain"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "FAIL  ROS_AUTOMATIC_DISCOVERY_RANGE: OFF"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "ok    ROS_AUTOMATIC_DISCOVERY_RANGE: LOCALHOST: a camera on"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "local"}, "warn  ROS_AUTOMATIC_DISCOVERY_RANGE: 'local' is no value"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "warn  ROS_LOCALHOST_ONLY: 1"),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "ok    RMW_IMPLEMENTATION: rmw_zenoh_cpp; the camera's"),
    ],
)
def test_environment(variables: dict[str, str], said: str):
    assert said in lines(machine.check_environment(variables))


def profile(path: Path, segment: str, *, kind: str = "SHM", default: str = "true", used: str = "shm") -> Path:
    path.write_text(
        f"""<?xml version="1.0"?><dds xmlns="http://www.eprosima.com"><profiles><transport_descriptors>
        <transport_descriptor><transport_id>shm</transport_id><type>{kind}</type>{segment}</transport_descriptor>
        <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor>
        </transport_descriptors><participant profile_name="p" is_default_profile="{default}"><rtps><userTransports>
        <transport_id>{used}</transport_id></userTransports></rtps></participant></profiles></dds>"""
    )
    return path


def test_segment_is_the_one_of_the_shared_memory_that_the_default_participant_uses(tmp_path: Path):
    size = "<segment_size>4000000</segment_size>"
    sizes = [
        machine.shared_segment_bytes(one)
        for one in (
            PROFILE,
            profile(tmp_path / "a", size),
            profile(tmp_path / "b", ""),
            profile(tmp_path / "c", size, kind="UDPv4"),
            profile(tmp_path / "d", size, default="false"),
            profile(tmp_path / "e", size, used="udp"),
        )
    ]
    assert sizes == [64 * 2**20, 4_000_000, 2**19, 2**19, 2**19, 2**19]


def test_profile_must_be_there_be_xml_and_hold_an_image(tmp_path: Path):
    def said(path: object, frame_bytes: int = 921_600, **more: str) -> str:
        variables = {"FASTDDS_DEFAULT_PROFILES_FILE": str(path)} | more
        return lines(machine.check_profile(variables, frame_bytes))

    (tmp_path / "text").write_text("no xml")
    assert "FAIL  Fast DDS profile: /nowhere.xml cannot be read (No such file or directory)" in said("/nowhere.xml")
    assert "cannot be read (Is a directory)" in said(tmp_path)
    assert "is no Fast DDS profile" in said(tmp_path / "text")
    assert "is no Fast DDS profile" in said(profile(tmp_path / "odd", "<segment_size>big</segment_size>"))
    small = said(profile(tmp_path / "small", ""))
    assert "shared memory of 512 KiB is smaller than one image of 900 KiB, so most images are lost" in small
    assert f"export FASTDDS_DEFAULT_PROFILES_FILE={PROFILE}" in small
    assert said(PROFILE).startswith(f"ok    Fast DDS profile: {PROFILE}: 64.0 MiB of shared memory")
    assert said(PROFILE, 2**27).startswith("FAIL")
    assert said("/nowhere.xml", RMW_IMPLEMENTATION="rmw_zenoh_cpp").startswith("ok")
    assert said(PROFILE, ROS_DISTRO="humble").startswith("warn  Fast DDS profile: none in this shell")
    assert "export FASTRTPS_DEFAULT_PROFILES_FILE=" in said(PROFILE, ROS_DISTRO="humble")


def test_shared_memory_must_hold_a_segment(tmp_path: Path):
    assert only(machine.check_shared_memory(tmp_path, 1)).level == "ok"
    full = only(machine.check_shared_memory(tmp_path, 2**60))
    assert (full.level, "--shm-size" in full.remedy) == ("FAIL", True)
    assert only(machine.check_shared_memory(tmp_path / "no", 1)).text == "cannot be used (No such file or directory)"


def test_slow_matrix_products_of_numpy_are_named():
    line = "7f2c000-7f2d000 r-xp 00000000 08:01 42 /usr/lib/x86_64-linux-gnu/{}/libblas.so.3.11.0\n"
    assert only(machine.check_blas(line.format("blas"))).remedy == "apt install libopenblas0"
    assert not list(machine.check_blas(line.format("openblas-pthread")))
    own = Path("/proc/self/maps").read_text()  # numpy's wheel brings OpenBLAS, whatever else is loaded
    assert "openblas" not in own or not list(machine.check_blas(own))


def test_a_package_that_is_missing_damaged_or_installed_twice_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))  # what pip leaves of two of them
    said = lines(machine.check_packages({"onnxruntime": "1", "onnxruntime-gpu": "1", "opencv-python": "5"}))
    assert "ok    numpy: " + np.__version__ in said
    assert "FAIL  simplejpeg: cannot be imported (import of simplejpeg halted" in said
    assert "-> pip install simplejpeg" in said
    assert "FAIL  onnxruntime: its files are missing, an empty folder is left -> pip uninstall onnxruntime" in said
    assert "warn  onnxruntime: onnxruntime and onnxruntime-gpu are both installed" in said
    assert "opencv" not in said


def test_model_is_loaded_run_and_described_or_refused_with_what_to_do(tmp_path: Path):
    good = lines(machine.check_model(write_tiny_model(tmp_path / "tiny.onnx")))
    assert "tiny.onnx: tiny, multiclass of 3, 32x24; loaded and warmed up in" in good
    assert "provider: runs on CPUExecutionProvider" in good
    (tmp_path / "text.onnx").write_text("no model")
    bad = only(machine.check_model(tmp_path / "text.onnx"))
    assert (bad.level, bad.subject) == ("FAIL", "model")
    assert "text.onnx" in bad.text
    assert bad.remedy
    nowhere = only(machine.check_model(Path("~nobody_of_this_name/a.onnx")))
    assert (nowhere.level, nowhere.remedy) == ("FAIL", "write the whole path")
    assert "there is no user 'nobody_of_this_name'" in nowhere.text
