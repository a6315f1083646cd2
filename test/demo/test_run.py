"""Owns: which folders the demo may empty, and what it says comes next. Leaves to others: what it draws (test_draw)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import documentation
import pytest
from paths import ROOT

pytest.importorskip("rclpy")
pytest.importorskip("torch", reason="needs what training needs")

from cnn_perception.errors import ConfigError
from demo.run import _require_own, next_commands
from training import config


def test_folder_of_somebody_else_is_not_emptied(tmp_path: Path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="run: is there already"):
        _require_own(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folder_of_an_earlier_demo_is_used_again(tmp_path: Path):
    _require_own(tmp_path)
    (tmp_path / "run").mkdir()
    _require_own(tmp_path)


def test_the_next_commands_name_programs_parameters_and_settings_that_there_are(tmp_path: Path):
    camera, node, page, train = map(shlex.split, next_commands(Path("demo output/model.onnx")))
    programs = set(re.findall(r'f"(\w+) = ', (ROOT / "setup.py").read_text()))

    assert {Path(command[0]).name for command in (camera, node, page)} <= programs
    assert node[-1] == "model:=demo output/model.onnx"
    documentation.check(documentation.Command(ROOT / "demo" / "run.py", tuple(camera)))
    given = config.parse(train[3:])
    assert train[:3] == [".venv/bin/python", "-m", "training.train"]
    assert config.make(**given).backbone == "resnet18"
