"""Owns: that the tests which test/README.md names exist."""

from __future__ import annotations

import re

from paths import ROOT


def test_every_test_that_the_tables_name_exists():
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", (ROOT / "test" / "README.md").read_text())
    assert len(named) > 80
    for module, name in named:
        (path,) = (ROOT / "test").rglob(f"{module}.py")
        assert not name or f"def {name}(" in path.read_text(), f"{module}::{name}"
