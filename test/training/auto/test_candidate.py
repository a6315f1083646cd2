"""Owns: which networks are tried, and that nothing is downloaded unasked. Leaves to others: how they are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from cnn_perception.errors import ConfigError
from training import config
from training.auto import candidate
from training.auto.asked import Asked
from training.auto.candidate import Weighted
from training.loop.run import settings
from training.networks import backbones
from training.networks.libraries.by_name import library_of


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


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


def test_weights_that_timm_has_downloaded_are_at_hand_and_load_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("timm", reason="needs the optional timm")
    name = "timm:test_resnet.r160_in1k"
    tensors = backbones.build(name, 1000).state_dict()
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"  # as huggingface_hub lays out its cache
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(tensors, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    (tmp_path / "models--timm--resnet18.a1_in1k").mkdir()  # a download that has hardly begun
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert candidate.with_weights(asked()) == [Weighted(name, "imagenet")]
    assert candidate.with_weights(asked(["timm:test_resnet", "timm:resnet18"])) == [
        Weighted("timm:test_resnet", "imagenet")
    ]
    loaded = library_of(name).published(name).state()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in tensors.items())


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


OWN = """
from torch import nn

MEAN, STD, INPUT_SIZE = (0.5, 0.4, 0.3), (0.25, 0.25, 0.25), (40, 48)


def net(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


@pytest.mark.parametrize("how", ["probe", "scratch"])
def test_a_network_is_tried_with_the_preprocessing_that_it_is_trained_with_at_the_end(how, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CNN_PERCEPTION_MODULE", raising=False)
    (tmp_path / "net.py").write_text(OWN)
    name = f"{tmp_path / 'net.py'}:net"
    if how == "probe":
        (one,) = candidate.probes([Weighted(name, "w.pth")], "multiclass", {})
    else:
        one = candidate.from_scratch("net", name, "light", 96, 30, {})

    tried = config.make(**one.settings, data="d", output="o").input
    final = settings({**one.settings, "data": "d", "output": str(tmp_path / "final")}).input

    assert tried == final
    assert (tried.height, tried.width, tried.mean) == (40, 48, (0.5, 0.4, 0.3))


def test_what_the_user_says_of_the_images_goes_before_what_a_network_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "net.py").write_text(OWN)

    one = candidate.from_scratch("net", f"{tmp_path / 'net.py'}:net", "light", 96, 30, {"input_size": (64, 64)})

    assert config.make(**one.settings, data="d", output="o").input_size == (64, 64)


def test_a_network_of_timm_is_judged_with_the_preprocessing_that_it_is_trained_with(tmp_path):
    pytest.importorskip("timm")
    (probe,) = candidate.probes([Weighted("timm:vit_small_patch14_dinov2", "w.pth")], "multiclass", {})

    for one in (probe, candidate.fine_tuning(probe, 100, {})):
        chosen = {**one.settings, "data": "d", "output": str(tmp_path / "run")}
        judged = config.make(**chosen).input
        assert judged == settings(chosen).input
        assert (judged.height, judged.interpolation) == (518, "bicubic")  # of timm's record
