from __future__ import annotations

from pathlib import Path

import pytest
from tiny_images import write_folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small pictures of three colours, a folder each."""
    return write_folder(tmp_path_factory.mktemp("photos"), {"go": 8, "stop": 8, "turn": 8})
