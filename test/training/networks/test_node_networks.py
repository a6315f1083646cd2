"""Owns: that the node answers over DDS with the file of several networks, of one of timm, and of one of the user's own.

Leaves to others: what else is in such files (test_ensemble_file, test_timm, test_own_module), a whole run of training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("torch", reason="needs what training needs")

import torch
from checkpoints import CLASSES, checkpoint_of
from perception import NODE, ask, camera_of, image
from ros import Participant, Process, running
from torch import nn
from vision_msgs.msg import Classification

from cnn_perception.errors import EXIT_OK
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD
from training import checkpoint, export
from training.networks import backbones
from training.networks.libraries import own_module

SIZE = (64, 96)
OWN = """
from torch import nn


def net(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


def network(name: str, seed: int = 0) -> nn.Module:
    """A network with random weights whose answers differ from image to image."""
    torch.manual_seed(seed)
    model = backbones.build(name, len(CLASSES), size=SIZE)
    nn.init.normal_(model.get_submodule(backbones.classifier_name(model)).weight, std=1.0)
    return model.eval()


def of_several(folder: Path) -> tuple[list[Path], list[nn.Module]]:
    names = ["layers: conv 4 5x5 s2, relu, gap, fc", "layers: conv 6 3x3 s2, relu, conv 5 3x3, relu, gap, fc"]
    return _saved(folder, {name: network(name, seed) for seed, name in enumerate(names)})


def of_timm(folder: Path) -> tuple[list[Path], list[nn.Module]]:
    pytest.importorskip("timm", reason="needs the optional timm")
    return _saved(folder, {"timm:test_vit": network("timm:test_vit")})


def of_own_module(folder: Path) -> tuple[list[Path], list[nn.Module]]:
    (folder / "mine.py").write_text(OWN)
    name = f"{folder / 'mine.py'}:net"
    own_module.allow(name)
    return _saved(folder, {name: network(name)})


def _saved(folder: Path, networks: dict[str, nn.Module]) -> tuple[list[Path], list[nn.Module]]:
    paths = []
    for number, (name, model) in enumerate(networks.items()):
        saved = checkpoint_of(name, model, SIZE)
        paths.append(folder / f"{number}.pt")
        checkpoint.save(paths[-1], dataclasses.replace(saved, source=own_module.fields_of(name)))
    return paths, list(networks.values())


@dataclasses.dataclass(frozen=True)
class Made:
    """A model file, and the networks that it is of."""

    path: Path
    networks: list[nn.Module]


@pytest.fixture(scope="module", params=[of_several, of_timm, of_own_module])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("model")
    make: Callable[[Path], tuple[list[Path], list[nn.Module]]] = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        torch.set_num_threads(1)
        paths, networks = make(folder)
        asked = ["--checkpoint", *map(str, paths), "--output", str(folder / "m.onnx"), "--parity-images", "2"]
        assert export.main(asked) == EXIT_OK
    return Made(folder / "m.onnx", networks)


@pytest.fixture(scope="module")
def node(domain: int, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    with running("perception_node", domain, log, model=made.path, diagnostics_period_s=0.05) as process:
        yield process


def test_node_answers_as_the_networks_in_torch_do_on_average(ros: Participant, made: Made):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    pixels = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), np.uint8)

    ask(ros, camera, image((5, 0), pixels), answers)

    normalised = (pixels / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    prepared = torch.from_numpy(normalised.transpose(2, 0, 1)[np.newaxis].copy())
    with torch.no_grad():
        scores = torch.stack([one(prepared).softmax(1)[0] for one in made.networks]).mean(0)
    found = {result.class_id: result.score for result in answers[-1].results}
    assert found == pytest.approx(dict(zip(CLASSES, scores.tolist(), strict=True)), abs=1e-4)
    assert max(found.values()) - min(found.values()) > 0.01
