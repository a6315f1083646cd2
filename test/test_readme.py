"""Owns: that the tests which test/README.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent


def test_every_test_that_the_tables_name_exists():
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", (FOLDER / "README.md").read_text())
    assert len(named) > 80
    for module, name in named:
        source = (FOLDER / f"{module}.py").read_text()
        assert not name or f"def {name}(" in source, f"{module}::{name}"
