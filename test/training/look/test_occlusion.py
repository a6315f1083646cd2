"""Owns: what covering a part costs, what is sent back to the pixels, and by which units answers are explained."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from looked_at import subject_of
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import fx, nn
from torch.nn import functional

from training.look.answering import answers, certainty, leading_units, shares
from training.look.methods.backward import RULES, backward
from training.look.methods.occlusion import occlude, place_count, usual_square
from training.look.sections import occlusion
from training.networks import backbones


def test_only_the_region_that_the_answer_rests_on_costs_something_and_exactly_its_share():
    image = torch.rand(3, 17, 24) + 0.5
    rows, columns = slice(4, 9), slice(10, 16)

    found = occlude(lambda images: images[:, :, rows, columns].mean((1, 2, 3)), image, 5, 2, batch=7)

    expected = []
    for top, left in found.places.tolist():
        part = image.numpy()[:, max(top, 4) : min(top + 5, 9), max(left, 10) : min(left + 5, 16)]
        expected.append(part.sum() / (3 * 5 * 6))
    np.testing.assert_allclose(found.drops, expected, atol=1e-6)
    assert found.whole == pytest.approx(float(image[:, rows, columns].mean()))
    assert (found.heat[:, :6] == 0).all()
    assert (found.heat[13:] == 0).all()
    top, left = found.places[found.strongest].tolist()
    assert top == 4
    assert left in (10, 12)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (17, 24), (32, 100), (3, 1)])
def test_every_pixel_is_covered_and_no_square_leaves_the_image(height, width):
    side, step = usual_square(height, width)
    done = []

    found = occlude(lambda images: images.sum((1, 2, 3)), torch.ones(1, height, width), side, step, advance=done.append)

    covered = np.zeros((height, width), bool)
    for top, left in found.places.tolist():
        covered[top : top + side, left : left + side] = True
    assert covered.all()
    assert found.places.min() >= 0
    assert (found.places.max(0).values + side <= torch.tensor([height, width])).all()
    assert sum(done) == len(found.places) == place_count(height, width, side, step)
    torch.testing.assert_close(found.heat, torch.full((height, width), float(side * side)))


def test_at_224_pixels_the_square_has_64_and_moves_by_32():
    assert usual_square(224, 224) == (64, 32)
    assert place_count(224, 224, 64, 32) == 36


def two_layers() -> fx.GraphModule:
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0, 0, 0], [0, -1, 0], [1, 1, 1]]).reshape(3, 3, 1, 1)
    network[2].weight.data = torch.tensor([1.0, 2, -3]).reshape(1, 3, 1, 1)
    return fx.symbolic_trace(network.requires_grad_(False))


@pytest.mark.parametrize(
    ("rule", "expected"),
    # For x = (1, 2, -1) the hidden units get (1, -2, 2) from below and (1, 2, -3) from above.
    [("gradient", [-2.0, -3, -3]), ("deconvnet", [1.0, -2, 0]), ("guided", [1.0, 0, 0])],
)
def test_what_two_layers_send_back_is_what_one_works_out_by_hand(rule, expected):
    image = torch.tensor([1.0, 2, -1]).reshape(1, 3, 1, 1)

    signal = backward(two_layers(), image, lambda values: values[:, 0, 0, 0], rule)

    assert signal.flatten().tolist() == expected


def test_guided_backpropagation_is_that_of_pytorch_grad_cam():
    torch.manual_seed(0)
    model = backbones.build("resnet18", 4).eval()
    image = torch.randn(1, 3, 64, 64)
    traced = fx.symbolic_trace(copy.deepcopy(model).requires_grad_(False))

    expected = GuidedBackpropReLUModel(model=model, device=torch.device("cpu"))(image.clone(), target_category=2)
    signal = backward(traced, image, lambda logits: logits[:, 2], "guided")

    np.testing.assert_allclose(signal[0].permute(1, 2, 0), expected, rtol=1e-3, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 2, 3), nn.ReLU()).double()
    traced = fx.symbolic_trace(network.requires_grad_(False))
    image = torch.randn(1, 3, 6, 7, dtype=torch.float64)

    def number(values: torch.Tensor) -> torch.Tensor:
        return values[:, 1].sum((1, 2))

    signal = backward(traced, image, number, "gradient")

    for index in [(0, 0, 2, 2), (0, 1, 3, 4), (0, 2, 5, 6)]:
        step = torch.zeros_like(image)
        step[index] = 1e-6
        slope = (number(traced(image + step)) - number(traced(image - step))) / 2e-6
        assert float(signal[index]) == pytest.approx(float(slope), abs=1e-6)


@pytest.mark.parametrize("kind", ["module", "function", "method", "torch"])
def test_a_rectifier_is_found_however_it_is_written(kind):
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.relu = nn.ReLU()
            self.last = nn.Conv2d(4, 1, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            hidden = self.first(image)
            if kind == "module":
                return self.last(self.relu(hidden))
            if kind == "function":
                return self.last(functional.relu(hidden))
            return self.last(hidden.relu() if kind == "method" else torch.relu(hidden))

    torch.manual_seed(2)
    network = Written().requires_grad_(False)
    image = torch.randn(1, 3, 2, 2)
    first, last = network.first.weight[..., 0, 0], network.last.weight[0, :, 0, 0]
    on = network.first(image) > 0
    above = last.clamp(min=0).reshape(1, 4, 1, 1)
    expected = torch.einsum("oi,nohw->nihw", first, above * on)

    signal = backward(fx.symbolic_trace(network), image, lambda values: values.sum((1, 2, 3)), "guided")

    torch.testing.assert_close(signal, expected)


def test_of_a_pooling_network_the_shares_of_the_last_layers_units_add_up_to_the_logit(photos):
    subject = subject_of("resnet18", 64, photos)
    given = answers(subject)
    weight, bias = subject.model.fc.weight, subject.model.fc.bias

    (contributed,) = shares(subject, subject.layers[-1:], given)

    with torch.no_grad():
        maps = subject.cut(subject.layers[-1].node)(torch.stack([answer.image for answer in given]))
    for row, answer in enumerate(given):
        torch.testing.assert_close(contributed[row], maps[row].mean((1, 2)) * weight[answer.output])
        assert float(contributed[row].sum() + bias[answer.output]) == pytest.approx(
            float(answer.logits.max()), abs=1e-4
        )


def test_units_are_taken_for_the_pictures_in_turn_and_once():
    contributions = torch.tensor([[0.0, 5, 4, 1], [9.0, 8, 0, 1]])

    assert leading_units(contributions, 3) == [1, 0, 2]
    assert leading_units(contributions, 9) == [1, 0, 2, 3]


def test_certainty_is_the_logarithm_of_the_odds(photos):
    subject = subject_of("squeezenet1_1", 64, photos)
    logits = torch.randn(5, 3)
    probability = logits.softmax(1)[:, 1]

    torch.testing.assert_close(certainty(subject, 1)(logits), (probability / (1 - probability)).log())


@pytest.fixture
def few_places(monkeypatch):
    monkeypatch.setattr(occlusion, "_square", lambda subject: (32, 32))


@pytest.mark.usefixtures("few_places")
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "vgg11", "convnext_tiny"])
def test_answers_and_deep_units_are_explained_and_the_network_stays_as_it_was(name, photos):
    subject = subject_of(name, 32 if name == "vgg11" else 64, photos, most_images=6)
    kept = copy.deepcopy(subject.model.state_dict())
    kinds = [type(module) for module in subject.model.modules()]

    section = occlusion.look(subject)

    rules = ["gradient"] if name == "convnext_tiny" else list(RULES)
    assert section.facts["rules"] == rules
    assert ("which this network lacks" in section.intro) == (name == "convnext_tiny")
    *images, table, _, _, _, _ = section.blocks
    assert [len(block.pictures) for block in images] == [2 + len(rules)] * 4
    assert len(table.table) == 5
    assert all(set(image["alike"]) == set(rules) for image in section.facts["images"])
    assert all(torch.equal(kept[key], value) for key, value in subject.model.state_dict().items())
    assert [type(module) for module in subject.model.modules()] == kinds


def test_the_drop_in_the_figures_is_that_of_the_picture_with_the_square_on_it(photos):
    subject = subject_of("squeezenet1_1", 64, photos, images=tuple(sorted((photos / "go").iterdir())[:1]))

    (found,) = occlusion.look(subject).facts["images"]

    image, side = subject.shown[0].image, usual_square(64, 64)[0]
    top, left = found["place"]
    covered = image.clone()
    covered[:, top : top + side, left : left + side] = 0
    with torch.no_grad():
        probabilities = subject.model(torch.stack([image, covered])).softmax(1)[:, answers(subject)[0].output]
    before, after = (probabilities / (1 - probabilities)).log().tolist()
    assert found["certainty"] == pytest.approx(before, abs=1e-3)
    assert found["largest_drop"] == pytest.approx(before - after, abs=1e-3)


@pytest.mark.usefixtures("few_places")
def test_a_network_without_maps_is_covered_all_the_same(photos, monkeypatch):
    monkeypatch.setattr(occlusion, "_square", lambda subject: (112, 112))
    subject = subject_of("vit_b_16", 224, photos, images=tuple(sorted((photos / "go").iterdir())[:1]))

    section = occlusion.look(subject)

    assert len(section.facts["images"][0]["drops"]) == 4
    assert section.facts["rules"] == ["gradient"]
    assert len(section.blocks) == 2


def test_red_is_where_covering_costs_and_blue_where_it_helps():
    picture = np.full((28, 28, 3), 128, np.uint8)
    heat = np.zeros((28, 28), np.float32)
    heat[:14, :14] = 2.0
    heat[14:, 14:] = -2.0

    drawn = occlusion.heat_picture(picture, heat).astype(int)

    assert drawn[3, 3, 0] > drawn[3, 3, 2] + 50
    assert drawn[24, 24, 2] > drawn[24, 24, 0] + 50
    np.testing.assert_array_equal(drawn[3, 24], [128, 128, 128])


def test_a_signal_is_drawn_around_grey_whatever_its_size():
    signal = torch.zeros(3, 20, 20)
    signal[0, :10], signal[1, 10:] = 1e-4, -1e-4

    drawn = occlusion.signal_picture(signal)

    assert drawn[0, 0].tolist() == [255, 128, 128]
    assert drawn[19, 0].tolist() == [128, 0, 128]
    np.testing.assert_array_equal(occlusion.signal_picture(torch.zeros(3, 4, 4)), 128)
