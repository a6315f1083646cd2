"""Owns: that optimised pictures show what a unit likes, and depend on nothing else. Leaves to others: the survey."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from looked_at import subject_of
from torch import fx, nn
from torch.nn import functional

from training.look.methods.rectifiers import before_last_rectifier, fused
from training.look.methods.visualisation import Ascent, Normalisation, ascend, likeness
from training.look.sections import visualisation
from training.networks import backbones

PLAIN = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CPU = torch.device("cpu")


def gabor(degrees: float, side: int = 11, period: float = 6.0) -> np.ndarray:
    """Stripes of that direction under a bell, of mean 0."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    along = columns * np.cos(np.radians(degrees)) + rows * np.sin(np.radians(degrees))
    stripes = np.cos(2 * np.pi * along / period) * np.exp(-(rows**2 + columns**2) / 18)
    return (stripes - stripes.mean()).astype(np.float32)


def of_patterns(patterns: list[np.ndarray]) -> nn.Sequential:
    """A network whose unit k is on wherever a patch of the image resembles the k-th pattern (3, side, side)."""
    convolution = nn.Conv2d(3, len(patterns), patterns[0].shape[1], bias=False)
    convolution.weight.data = torch.from_numpy(np.stack(patterns))
    # A linear map has no places to prefer: its mean over the picture is that of flat colour.
    return nn.Sequential(convolution, nn.ReLU()).requires_grad_(False)


def best_match(picture: torch.Tensor, pattern: np.ndarray) -> float:
    """The largest correlation of a pattern (3, side, side) with the patches of a picture."""
    windows = functional.unfold(picture[None], pattern.shape[1])[0].T.numpy()
    return float(max(np.corrcoef(window, pattern.ravel())[0, 1] for window in windows))


def random_network() -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 3)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def found(network: nn.Module, units: list[int], ascent: Ascent, first_seed: int = 0) -> torch.Tensor:
    return ascend(network, units, [(first_seed, unit) for unit in units], PLAIN, ascent, CPU)


def test_the_picture_of_a_unit_shows_the_stripes_that_it_was_built_to_like_and_no_others():
    patterns = [np.repeat(gabor(degrees)[None], 3, 0) for degrees in (0, 60, 120)]
    network = of_patterns(patterns)

    pictures = found(network, [0, 1, 2], Ascent(40, 48, steps=64))

    matches = np.array([[best_match(picture, pattern) for pattern in patterns] for picture in pictures])
    assert (matches.diagonal() > 0.65).all(), matches  # endless stripes and those under a bell: 0.87 at best
    assert (matches.argmax(1) == range(3)).all()
    assert (matches.diagonal() - np.sort(matches, 1)[:, -2] > 0.3).all(), matches


def test_the_picture_of_a_unit_has_the_colour_that_it_was_built_to_like():
    colours = np.float32([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]])
    network = of_patterns([np.tile(colour[:, None, None], (1, 3, 3)) for colour in colours])

    means = found(network, [0, 1, 2], Ascent(24, 24, steps=64)).mean((2, 3))

    assert means.argmax(1).tolist() == [0, 1, 2]
    assert (means.diagonal() - means.sum(1).sub(means.diagonal()) / 2 > 0.1).all()


def test_a_picture_depends_on_its_unit_and_seed_alone():
    network, ascent = random_network(), Ascent(32, 32, steps=24)

    alone = found(network, [4], ascent)[0]
    in_front = found(network, [4, 1, 0], ascent)[0]
    behind = found(network, [2, 3, 4], ascent)[2]

    torch.testing.assert_close(in_front, alone, atol=2e-3, rtol=0)
    torch.testing.assert_close(behind, alone, atol=2e-3, rtol=0)
    assert torch.equal(found(network, [4], ascent)[0], alone)
    assert (found(network, [4], ascent, first_seed=1)[0] - alone).abs().max() > 0.05


def test_a_unit_that_is_off_for_noise_is_visualised_in_front_of_its_rectifier():
    network = nn.Sequential(of_patterns([np.repeat(gabor(30)[None], 3, 0)]), nn.Conv2d(1, 1, 1), nn.ReLU())
    network[1].weight.data.fill_(1.0)
    network[1].bias.data.fill_(-100.0)
    traced = fx.symbolic_trace(network.requires_grad_(False))
    ascent = Ascent(32, 32, steps=12)

    grey = found(traced, [0], ascent)
    striped = found(before_last_rectifier(traced), [0], ascent)

    assert grey.std() < 0.02
    assert striped.std() > 0.1


def test_the_last_rectifiers_are_found_through_a_concatenation_and_others_stay():
    class Fire(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(3, 2, 1)
            self.one = nn.Conv2d(2, 2, 1)
            self.other = nn.Conv2d(2, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            squeezed = functional.relu(self.squeeze(image))
            return torch.cat([torch.relu(self.one(squeezed)), self.other(squeezed).relu()], 1)

    network = Fire()
    image = torch.randn(2, 3, 5, 7)
    squeezed = network.squeeze(image).clamp(min=0)
    expected = torch.cat([network.one(squeezed), network.other(squeezed)], 1)
    traced = fx.symbolic_trace(network)

    torch.testing.assert_close(before_last_rectifier(traced)(image), expected)
    torch.testing.assert_close(traced(image), expected.clamp(min=0))


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_fusing_changes_neither_the_answers_nor_the_network_itself(name):
    torch.manual_seed(0)
    model = backbones.build(name, 4).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    traced = fx.symbolic_trace(model)
    before = copy.deepcopy(model.state_dict())
    image = torch.randn(2, 3, 64, 64)

    quick = fused(traced)

    with torch.no_grad():
        torch.testing.assert_close(quick(image), model(image), rtol=1e-3, atol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) < sum(
        isinstance(module, nn.BatchNorm2d) for module in model.modules()
    )
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_likeness_is_the_cosine_of_gram_matrices():
    maps = torch.randn(3, 4, 5, 6)
    grams = [on @ on.T for on in (one.clamp(min=0).reshape(4, 30).numpy() for one in maps)]
    cosines = [
        float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
        for i, a in enumerate(grams)
        for j, b in enumerate(grams)
        if i != j
    ]

    assert float(likeness(maps)) == pytest.approx(sum(cosines) / 3, rel=1e-5)


def test_diversity_makes_pictures_of_one_unit_less_alike():
    network = random_network()
    seeds = [(0, number) for number in range(3)]

    def alike(diversity: float) -> float:
        ascent = Ascent(32, 32, steps=32, diversity=diversity)
        pictures = ascend(network, [2, 2, 2], seeds, PLAIN, ascent, CPU)
        return float(likeness(network((pictures - 0.5) / 0.25)))

    assert alike(10.0) < alike(0.0) - 0.05


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(visualisation, "_STEPS", 2)
    monkeypatch.setattr(visualisation, "_CLASS_STEPS", 2)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_units_of_four_depths_and_the_answers_stand_beside_what_excites_them(name, photos):
    subject = subject_of(name, 64, photos, most_images=6)
    kept = copy.deepcopy(subject.model.state_dict())

    section = visualisation.look(subject)

    *units, diverse, answer = section.facts["pictures"]
    assert sum(len(job["units"]) for job in units) == 8
    assert len({job["of"] for job in units}) == min(4, len(subject.layers) - 1)
    assert subject.layers[0].name not in {job["of"] for job in units}
    assert len(diverse["units"]) == 4
    assert sorted(answer["units"]) == [0, 1, 2]
    assert [len(block.pictures) for block in section.blocks] == [len(j["units"]) for j in section.facts["pictures"]]
    assert len({picture.name for block in section.blocks for picture in block.pictures}) == 15
    assert all(torch.equal(kept[key], value) for key, value in subject.model.state_dict().items())


@pytest.mark.usefixtures("few_steps")
def test_a_units_picture_is_the_same_whatever_else_is_asked_for(photos):
    def pictures(units: int) -> dict[str, np.ndarray]:
        section = visualisation.look(subject_of("squeezenet1_1", 64, photos, most_images=6, visualised_units=units))
        return {picture.name: picture.pixels.astype(int) for block in section.blocks for picture in block.pictures}

    few, many = pictures(2), pictures(9)

    common = set(few) & set(many)
    assert len(common) >= 2 + 3
    assert all(np.abs(few[name] - many[name]).max() <= 2 for name in common)


@pytest.mark.usefixtures("few_steps")
def test_a_slow_machine_gets_fewer_units_and_the_page_says_so(photos, monkeypatch):
    monkeypatch.setattr(visualisation, "_BUDGET_S", 1e-9)

    section = visualisation.look(subject_of("squeezenet1_1", 64, photos, most_images=6))

    assert all(len(job["units"]) == (2 if job["diversity"] else 1) for job in section.facts["pictures"])
    assert section.facts["left_out"] == 15 - sum(len(job["units"]) for job in section.facts["pictures"])
    assert f"{section.facts['left_out']} pictures were left out" in section.intro


@pytest.mark.usefixtures("few_steps")
def test_a_network_of_one_size_without_maps_shows_its_answers_at_that_size(photos, capfd):
    image = sorted((photos / "go").iterdir())[0]
    subject = subject_of("vit_b_16", 224, photos, most_images=3, images=(image,), visualised_units=1)

    section = visualisation.look(subject)

    assert [job["of"] for job in section.facts["pictures"]] == ["answer"]
    assert section.facts["pictures"][0]["size"] == [224, 224]
    assert "Traceback" not in capfd.readouterr().err
