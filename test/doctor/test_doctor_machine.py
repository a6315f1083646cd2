"""Owns: what the doctor says of the machine, its packages and a model file.

Leaves to others: what a middleware needs (test_doctor_middleware), topics and nodes.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from doctor_parts import lines, only
from tiny_model import write_tiny_model

from cnn_perception.doctor import machine
from cnn_perception.doctor.finding import Finding, exit_code_of, summary


def test_a_finding_is_one_line_and_any_failure_is_the_users_to_mend():
    fine = Finding("ok", "cv2", "5.0")
    doubtful = Finding("warn", "a b", "two\n  lines", "mend it")
    assert [str(fine), str(doubtful)] == ["ok    cv2: 5.0", "warn  a b: two lines -> mend it"]
    assert exit_code_of([fine, doubtful]) == 0
    assert exit_code_of([fine, Finding("FAIL", "a", "b"), doubtful]) == 2


def test_the_last_line_counts_what_must_be_mended_and_what_is_warned_of():
    fine, doubtful, wrong = (Finding(level, "a", "b") for level in ("ok", "warn", "FAIL"))
    assert summary([fine, fine]) == "all well"
    assert summary([fine, doubtful]) == "nothing to mend, 1 warning"
    assert summary([doubtful, wrong, doubtful]) == "1 to mend, 2 warnings"
    assert summary([wrong, fine]) == "1 to mend"


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
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "ok    RMW_IMPLEMENTATION: rmw_cyclonedds_cpp; the camera's"),
    ],
)
def test_environment(variables: dict[str, str], said: str):
    assert said in lines(machine.check_environment(variables))


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


def test_libraries_without_which_no_recording_is_read_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    installed = machine.installed_distributions()
    assert "recordings" not in lines(machine.check_packages(installed))
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in {"apsw", "yaml"} else there(name))
    said = lines(machine.check_packages(installed))
    assert (
        "warn  recordings: no apsw, yaml: recordings can neither be read nor written -> pip install apsw pyyaml" in said
    )


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
