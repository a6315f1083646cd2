"""Owns: features by ONNX Runtime. Leaves to others: features that are kept (test_feature_cache).

Oracle: torch.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnn_perception.model.spec import InputSpec
from training import frozen
from training.batches import feature_cache
from training.config import make
from training.loop import probe
from training.loop.run import open_run
from training.networks import backbones

CPU = torch.device("cpu")
OWN = "layers:conv 6 3x3 s2, bn, relu, conv 8 3x3, bn, relu, gap, fc 3"
SIZE = InputSpec(64, 72, "squash", 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
MANY = 2000 * 224 * 224 // (64 * 72) + 1


def network_of(name, seed=0):
    """A backbone whose batch normalisation is not that of a new network, which changes next to nothing."""
    torch.manual_seed(seed)
    model = backbones.build(name, 3, size=(64, 72)).train()
    with torch.no_grad():
        model(images(8, seed))
    cut = backbones.split(model.eval().requires_grad_(False), 64, 72)
    return nn.Sequential(cut.body, cut.neck).eval()


def images(count, seed=0):
    return torch.randn(count, 3, 64, 72, generator=torch.Generator().manual_seed(seed))


def answers(network, *batches):
    with torch.inference_mode():
        return [network(batch) for batch in batches]


def require_near(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", [OWN, "resnet18", "mobilenet_v3_small"])
def test_features_are_those_of_torch_for_batches_of_any_size(name, capsys):
    network = network_of(name)
    batches = images(4), images(4, 1), images(1, 2), images(3, 3).to(memory_format=torch.channels_last)
    before = torch.get_rng_state()

    accelerated = frozen.accelerated(network, SIZE, MANY, CPU)

    assert accelerated is not network
    assert torch.equal(torch.get_rng_state(), before)  # what learns afterwards is the same
    require_near(answers(accelerated, *batches), answers(network, *batches))
    assert capsys.readouterr().out == ""


def test_what_follows_the_first_images_is_no_longer_computed_by_torch():
    network = network_of(OWN)
    expected = answers(network, images(4), images(2, 1))
    accelerated = frozen.accelerated(network, SIZE, MANY, CPU)

    first = answers(accelerated, images(4))
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()

    require_near([*first, *answers(accelerated, images(2, 1))], expected)


def test_statistics_that_were_adapted_meanwhile_are_taken():
    network = network_of(OWN)
    before = answers(frozen.accelerated(network, SIZE, MANY, CPU), images(4), images(2, 1))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean += 0.3

    after = answers(frozen.accelerated(network, SIZE, MANY, CPU), images(4), images(2, 1))

    require_near(after, answers(network, images(4), images(2, 1)))
    assert not torch.allclose(before[1], after[1], rtol=1e-2)


def test_few_images_a_gpu_and_a_network_without_batch_normalisation_are_torchs():
    network = network_of(OWN)
    plain = network_of("layers:conv 6 3x3 s2, relu, gap, fc 3")

    assert frozen.accelerated(network, SIZE, MANY - 2, CPU) is network
    assert frozen.accelerated(network, SIZE, MANY, torch.device("cuda")) is network
    assert frozen.accelerated(plain, SIZE, MANY, CPU) is plain


class _Deciding(nn.Module):
    """What ONNX cannot tell: another way for other values."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        found = self.norm(images).mean((2, 3))
        return found if float(images.sum()) > 0 else -found


def test_a_network_that_cannot_be_exported_stays_torchs_and_it_is_said(capsys):
    network = _Deciding().eval()

    assert frozen.accelerated(network, SIZE, MANY, CPU) is network
    assert capsys.readouterr().out.count("features are computed by torch, not by ONNX Runtime: ") == 1


def test_a_graph_that_gives_something_else_is_dropped_at_the_first_images(monkeypatch, capsys):
    network, other, export = network_of(OWN), network_of(OWN, 1), frozen.to_onnx
    monkeypatch.setattr(frozen, "to_onnx", lambda _network, *rest: export(other, *rest))

    accelerated = frozen.accelerated(network, SIZE, MANY, CPU)

    for found, expected in zip(
        answers(accelerated, images(4), images(2)), answers(network, images(4), images(2)), strict=True
    ):
        assert torch.equal(found, expected)
    assert capsys.readouterr().out.count("its features differ from torch's") == 1


def test_a_failure_on_the_way_is_said_and_torch_goes_on(monkeypatch, capsys):
    class Failing:
        def __init__(self, session):
            self.session, self.count = session, 0

        def run(self, *given):
            self.count += 1
            if self.count == 2:
                raise RuntimeError("no more memory")
            return self.session.run(*given)

    made = frozen._session
    monkeypatch.setattr(frozen, "_session", lambda data: Failing(made(data)))
    network = network_of(OWN)
    batches = images(4), images(4, 1), images(2, 2)

    require_near(answers(frozen.accelerated(network, SIZE, MANY, CPU), *batches), answers(network, *batches))
    assert capsys.readouterr().out.count("not by ONNX Runtime: no more memory") == 1


def test_the_features_of_a_probe_are_the_same_every_time_and_near_torchs(photos, tmp_path, monkeypatch):
    monkeypatch.setenv(feature_cache.FOLDER, "")
    made, sessions = frozen._session, []
    monkeypatch.setattr(frozen, "_session", lambda data: sessions.append(made(data)) or sessions[-1])
    torchs = embedded(photos, tmp_path / "torch")
    assert not sessions
    monkeypatch.setattr(frozen, "PIXELS", 0)

    first, again = (embedded(photos, tmp_path / name) for name in ("first", "again"))

    assert len(sessions) == 2
    assert np.array_equal(first, again)
    assert first == pytest.approx(torchs, abs=1e-4 * float(np.abs(torchs).max()))


def embedded(photos, folder):
    settings = {"mode": "probe", "weights": "none", "backbone": OWN, "seed": 1}
    run = open_run(make(data=str(photos), output=str(folder), input_size=(32, 40), workers=0, device="cpu", **settings))
    rows, kept = probe.features_of(run, probe.cut_of(run), run.data.part("train"))
    assert kept.all()
    return rows
