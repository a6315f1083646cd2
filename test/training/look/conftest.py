from __future__ import annotations

from pathlib import Path

import pytest
from looked_at import subject_of
from shallow_networks import make_shallow
from tiny_images import write_folder

from training.look.subject import Subject


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small pictures of three colours, a folder each."""
    return write_folder(tmp_path_factory.mktemp("photos"), {"go": 8, "stop": 8, "turn": 8})


@pytest.fixture(scope="session")
def residual(photos: Path) -> Subject:
    """A ResNet-18 of random weights over `photos`, with its survey; not to be changed."""
    return subject_of("resnet18", 64, photos)


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    make_shallow(monkeypatch)
