"""Owns: that the README's code runs, and that the tests which test/README.md names exist."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
from paths import ROOT
from PIL import Image
from tiny_model import write_tiny_model


def test_every_test_that_the_tables_name_exists():
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", (ROOT / "test" / "README.md").read_text())
    assert len(named) > 80
    for module, name in named:
        (path,) = (ROOT / "test").rglob(f"{module}.py")
        assert not name or f"def {name}(" in path.read_text(), f"{module}::{name}"


def test_the_readmes_code_runs_and_recognises_a_photograph(tmp_path):
    write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "photos" / "green").mkdir(parents=True)
    for path in (tmp_path / "photo.jpg", tmp_path / "photos" / "green" / "1.png"):
        Image.fromarray(np.full((30, 40, 3), (0, 255, 0), np.uint8)).save(path)
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code) == 2

    said = [
        subprocess.run([sys.executable, "-c", part], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for part in code
    ]

    assert said[0].startswith("[('green', 0.99")
    assert said[1] == "1.0\n"
    assert (tmp_path / "report" / "report.html").is_file()
