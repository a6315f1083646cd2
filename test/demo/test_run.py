"""Owns: which folders the demo may empty. Leaves to others: what it draws (test_draw)."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from cnn_perception.errors import ConfigError
from demo.run import _require_own


def test_folder_of_somebody_else_is_not_emptied(tmp_path: Path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="run: is there already"):
        _require_own(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folder_of_an_earlier_demo_is_used_again(tmp_path: Path):
    _require_own(tmp_path)
    (tmp_path / "run").mkdir()
    _require_own(tmp_path)
