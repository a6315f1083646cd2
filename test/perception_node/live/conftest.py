"""The node that most live tests talk to: a tiny model, diagnosed often. A module that needs another one has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_model import write_tiny_model

if TYPE_CHECKING:
    from ros import Process


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(domain: int, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    from ros import running  # not there without ROS, whose tests are then skipped

    log = tmp_path_factory.mktemp("node") / "log.txt"
    with running("perception_node", domain, log, model=model, diagnostics_period_s=0.05) as process:
        yield process
