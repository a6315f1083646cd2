"""What the tests of training runs share: labelled photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "signs")
