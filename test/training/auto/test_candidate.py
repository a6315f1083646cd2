"""Owns: which networks are tried, and that nothing is downloaded unasked. Leaves to others: how they are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from cnn_perception.errors import ConfigError
from training import config
from training.auto import candidate
from training.auto.asked import Asked
from training.auto.candidate import Weighted
from training.loop.run import settings
from training.networks import backbones


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network of a user's own file, which nobody has trained with before."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "MEAN, STD, INPUT_SIZE = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), (24, 40)\n"
        "def net(classes):\n"
        "    layers = nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(*layers, nn.Linear(4, classes))\n"
    )
    return f"{path}:net"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(backbones.build("shufflenet_v2_x0_5", 1000).state_dict(), path)
    return path


def asked(backbones=(), weights=()):
    return Asked({"data": ["d"]}, Path("o"), 1.0, None, tuple(backbones), tuple(map(str, weights)), "fp32", 5)


def test_without_weights_at_hand_none_are_used():
    assert candidate.with_weights(asked()) == []
    assert candidate.with_weights(asked(["resnet18"])) == []


def test_weights_that_torch_has_downloaded_are_at_hand(hub):
    hub.mkdir(parents=True)
    url = models.get_model_weights("resnet34")["DEFAULT"].url
    (hub / url.rpartition("/")[2]).write_bytes(b"")

    assert candidate.with_weights(asked()) == [Weighted("resnet34", "imagenet")]
    assert candidate.with_weights(asked(["resnet34", "resnet18"])) == [Weighted("resnet34", "imagenet")]
    assert candidate.with_weights(asked(["resnet18"])) == []


def test_a_download_is_allowed_by_its_word_alone():
    found = candidate.with_weights(asked(["resnet18", "vgg11"], ["imagenet"]))

    assert found == [Weighted("resnet18", "imagenet"), Weighted("vgg11", "imagenet")]


def test_a_file_is_for_the_network_that_it_fits(weights):
    assert candidate.with_weights(asked(["squeezenet1_1", "shufflenet_v2_x0_5"], [weights])) == [
        Weighted("shufflenet_v2_x0_5", str(weights))
    ]
    assert candidate.with_weights(asked([], [f"shufflenet_v2_x0_5={weights}"])) == [
        Weighted("shufflenet_v2_x0_5", str(weights))
    ]


def test_a_file_that_fits_nothing_is_refused(weights):
    with pytest.raises(ConfigError, match=r"fits none of squeezenet1_1; say which network it is for: NETWORK="):
        candidate.with_weights(asked(["squeezenet1_1"], [weights]))
    with pytest.raises(ConfigError, match="no such file"):
        candidate.with_weights(asked([], ["nowhere.pth"]))


def test_a_network_that_does_not_exist_is_refused_before_anything_is_tried():
    with pytest.raises(ConfigError, match="did you mean resnet18"):
        candidate.with_weights(asked(["resnet81"]))


@pytest.mark.parametrize("name", candidate.SCRATCH)
def test_small_networks_take_small_images_and_can_be_exported(name):
    network = backbones.build(candidate.SCRATCH[name], 7, size=(32, 32))

    assert backbones.split(network, 32, 32).spatial
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(("shorter", "side"), [(8, 32), (32, 32), (60, 64), (64, 64), (480, 128)])
def test_input_of_networks_without_weights_is_near_the_images_size(shorter, side):
    assert candidate.side_of(shorter) == side


def test_every_candidate_is_a_run_that_training_accepts():
    found = [Weighted("resnet18", "imagenet")]
    probe, cells, inner = candidate.probes(found, "regression", {"input_size": (64, 64)})
    scratch = candidate.from_scratch("small", candidate.SCRATCH["small CNN"], "shifted", 32, 30, {})
    for one in (
        probe,
        cells,
        inner,
        candidate.fine_tuning(probe, 100, {}),
        candidate.fine_tuning(probe, 99999, {}),
        scratch,
    ):
        assert config.make(**one.settings, data="d", output="o").backbone == one.backbone
    assert probe.settings["resize_mode"] == "squash"
    assert len({one.folder for one in (probe, cells, candidate.fine_tuning(probe, 100, {}), scratch)}) == 4
    assert probe.graph == candidate.fine_tuning(probe, 100, {}).graph != cells.graph


def as_judged_and_as_trained(one, folder):
    """The preprocessing of a candidate's folds and model file, and that of the last training."""
    chosen = {**one.settings, "data": "d", "output": str(folder / "run")}
    return config.make(**chosen).input, settings(chosen).input


def test_a_network_of_timm_is_judged_with_the_preprocessing_that_it_is_trained_with(tmp_path):
    pytest.importorskip("timm")
    (probe,) = candidate.probes([Weighted("timm:vit_small_patch14_dinov2", "w.pth")], "multiclass", {})

    for one in (probe, candidate.fine_tuning(probe, 100, {})):
        judged, trained = as_judged_and_as_trained(one, tmp_path)
        assert judged == trained
        assert (judged.height, judged.interpolation) == (518, "bicubic")  # of timm's record


def test_a_network_of_a_file_is_judged_with_what_the_file_says(own, tmp_path):
    judged, trained = as_judged_and_as_trained(
        candidate.from_scratch("mine", own, "light", 128, 2, {"std": (0.3, 0.3, 0.3)}), tmp_path
    )

    assert judged == trained
    assert (judged.height, judged.width, judged.mean) == (24, 40, (0.5, 0.4, 0.3))
    assert judged.std == (0.3, 0.3, 0.3)  # the user's
