"""Owns: that the node answers over DDS with a model file adopted from another program's graph, as that graph did.

Leaves to others: the layouts of such graphs (test/training/adopt).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("torch", reason="needs what training needs")

import foreign_graphs
import torch
from perception import NODE, ask, camera_of, image
from ros import Participant, Process, running
from vision_msgs.msg import Classification

from training.adopt.command import main

ULTRALYTICS = foreign_graphs.ultralytics()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    path, _ = foreign_graphs.write(ULTRALYTICS, folder)
    assert main(["--model", str(path), "--output", str(folder / "adopted.onnx")]) == 0
    return folder / "adopted.onnx"


@pytest.fixture(scope="module")
def node(domain: int, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    with running("perception_node", domain, log, model=model, diagnostics_period_s=0.05) as process:
        yield process


def test_node_answers_with_an_adopted_file_as_the_network_that_was_exported(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    pixels = np.random.default_rng(3).integers(0, 256, (foreign_graphs.SIDE, foreign_graphs.SIDE, 3), np.uint8)

    ask(ros, camera, image((5, 0), pixels), answers)

    logits = ULTRALYTICS.logits(pixels.transpose(2, 0, 1)[np.newaxis] / np.float32(255))
    expected = torch.from_numpy(logits).softmax(1)[0].numpy()
    found = {result.class_id: result.score for result in answers[-1].results}
    assert found == pytest.approx(dict(zip(ULTRALYTICS.class_names, expected.tolist(), strict=True)), abs=1e-4)
