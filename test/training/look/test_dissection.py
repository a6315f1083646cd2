"""Owns: units against masks: thresholds, overlaps, which unit is chosen. Leaves to others: reading masks."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from looked_at import samples_of, subject_of
from PIL import Image

from cnn_perception.masks.folder import read_masks
from cnn_perception.pipeline.label_map import interpolation
from demo.draw import draw_dataset, draw_masks
from training.look.methods.dissection import ON_SHARE, Overlaps, Thresholds, by_chance, cap
from training.look.section import CannotLookError
from training.look.sections.dissection import look
from training.networks import backbones

NAMES = ("red", "green", "blue")
COLOURS = np.array([(220, 40, 40), (40, 200, 40), (40, 60, 220)], np.uint8)
PLANTED = {"red": 5, "green": 40, "blue": 17}
SIDES = {"red": 4, "green": 12, "blue": 32}
"""Pixels of the squares of 64 x 64, so that red covers 0.4 %, green 3.5 % and blue 25 %."""
VOID = -2


def test_no_more_than_half_a_percent_of_the_cells_are_above_the_threshold():
    maps = torch.randn(12, 7, 5, 9, generator=torch.Generator().manual_seed(0)).relu()
    maps[:, 3] = 0.0
    tally = Thresholds(12 * 5 * 9)
    for batch in maps.split(5):
        tally.add(batch)

    found = tally.result()

    values = maps.transpose(0, 1).flatten(1).numpy()
    for unit, threshold in zip(values, found.tolist(), strict=True):
        assert (unit > threshold).mean() <= ON_SHARE
        assert (unit >= threshold).mean() > ON_SHARE
    assert found[3] == 0.0


def test_overlaps_are_those_of_full_arrays():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(6, 300, 4, 5)).astype(np.float32)
    maps[:, 7] = -5.0  # nowhere above its threshold
    thresholds = rng.uniform(0.0, 3.0, 300).astype(np.float32)
    labels = rng.integers(-2, 3, (6, 11, 13))
    down, across = interpolation(np.arange(11), 1.0, 2.5, 4), interpolation(np.arange(13), 1.5, 2.5, 5)
    overlaps = Overlaps(torch.from_numpy(thresholds), torch.from_numpy(down), torch.from_numpy(across), 3)
    for rows in (slice(0, 4), slice(4, 6)):
        overlaps.add(torch.from_numpy(maps[rows]), torch.from_numpy(labels[rows]), VOID)

    on = (np.einsum("rh,nchw,sw->ncrs", down, maps, across) > thresholds[:, None, None]) & (labels != VOID)[:, None]
    for concept in range(3):
        shown = (labels == concept)[:, None]
        both, either = (on & shown).sum((0, 2, 3)), (on | shown).sum((0, 2, 3))
        np.testing.assert_allclose(overlaps.iou()[:, concept], both / either, atol=2e-3)  # float32 decides ties
    np.testing.assert_allclose(overlaps.on, on.sum((0, 2, 3)), atol=1)
    assert overlaps.on[7] == 0
    assert overlaps.places == (labels != VOID).sum()


def test_a_concept_on_a_tenth_of_the_places_caps_the_overlap_at_a_twentieth():
    assert cap(0.1) == pytest.approx(0.05)
    assert cap(ON_SHARE) == 1.0
    assert cap(0.001) == pytest.approx(0.2)


def test_chance_is_what_an_independent_unit_reaches():
    rng = np.random.default_rng(0)
    on, shown = rng.random(4_000_000) < ON_SHARE, rng.random(4_000_000) < 0.3

    assert (on & shown).sum() / (on | shown).sum() == pytest.approx(by_chance(0.3), rel=0.05)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """24 pictures of 64 x 64 in class folders, each with a square of a colour, and their masks."""
    root = tmp_path_factory.mktemp("squares")
    (root / "masks").mkdir()
    lines = [f"{index + 1},{name}\n" for index, name in enumerate(NAMES)]
    (root / "masks" / "classes.csv").write_text("index,name\n" + "".join(lines) + "9,unseen\n")
    for place, name in enumerate(NAMES):
        (root / "photos" / name).mkdir(parents=True)
        for index in range(8):
            rng = np.random.default_rng([place, index])
            image = rng.integers(90, 150, (64, 64, 3), np.uint8)
            labels = np.zeros((64, 64), np.uint8)
            top, left = rng.integers(0, 64 - SIDES[name], 2)
            square = np.s_[top : top + SIDES[name], left : left + SIDES[name]]
            image[square] = COLOURS[place] + rng.integers(-30, 30, (SIDES[name], SIDES[name], 3))
            labels[square] = place + 1
            Image.fromarray(image).save(root / "photos" / name / f"{name}{index}.png")
            Image.fromarray(labels).save(root / "masks" / f"{name}{index}.png")
    return root


@pytest.fixture(scope="module")
def subject(squares):
    """A SqueezeNet whose first layer has three units, each of which is on where its colour is; all else is dead."""
    network = backbones.build("squeezenet1_1", 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first = network.get_submodule("features.0")
        for channel, name in enumerate(NAMES):
            first.weight[PLANTED[name], :, 1, 1] = -1.0
            first.weight[PLANTED[name], channel, 1, 1] = 1.0
            first.bias[PLANTED[name]] = -2.0
    return subject_of("squeezenet1_1", 64, squares / "photos", network, masks=read_masks(squares / "masks"))


@pytest.fixture(scope="module")
def section(subject):
    return look(subject)


def changed(subject, samples=None, **options):
    """The same network with other images or options."""
    other = copy.copy(subject)
    other.options = dataclasses.replace(subject.options, **options)
    other.samples = subject.samples if samples is None else tuple(samples)
    return other


def by_hand(root, size, name):
    """IoU of the unit planted for a colour with each concept, from arrays of all images at once, and where it is on."""
    channel = NAMES.index(name)
    paths = sorted((root / "photos").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    normalised = (pixels - np.array(size.mean)) / np.array(size.std)
    strength = 2 * normalised[..., channel] - normalised.sum(3) - 2
    cells = strength[:, 1:62:2, 1:62:2].clip(0)  # 31 cells; the middle of the 3x3 kernel lies at pixels 1, 3, 5, ...
    threshold = np.sort(cells.ravel())[::-1][int(0.005 * cells.size)]
    places = ((np.arange(64) - 1) / 2).clip(0, 30)
    low = np.floor(places).astype(int)
    share = places - low
    high = np.minimum(low + 1, 30)
    rows = cells[:, low] * (1 - share)[:, None] + cells[:, high] * share[:, None]
    on = rows[:, :, low] * (1 - share) + rows[:, :, high] * share > threshold
    masks = np.stack([np.asarray(Image.open(root / "masks" / path.name)) for path in paths])
    shown = [masks == index + 1 for index in range(3)]
    return [float((on & one).sum() / (on | one).sum()) for one in shown], float(on.mean())


def test_a_unit_planted_for_a_concept_is_found_with_the_overlap_of_hand_arithmetic(squares, subject, section):
    found = section.facts["concepts"]
    assert section.facts["images"] == 24
    assert section.facts["grid"] == [64, 64]
    for index, name in enumerate(NAMES):
        ious, on = by_hand(squares, subject.checkpoint.input, name)
        share = (SIDES[name] / 64) ** 2 / 3
        assert (found[name]["layer"], found[name]["unit"]) == (subject.layers[0].name, PLANTED[name])
        assert found[name]["iou"] == pytest.approx(ious[index], abs=2e-3)
        assert max(ious) == ious[index] > 10 * sorted(ious)[1]  # the other concepts' it is not
        assert found[name]["unit_on"] == pytest.approx(on, abs=1e-4)
        assert found[name]["share"] == pytest.approx(share)
        assert found[name]["cap"] == pytest.approx(min(0.005, share) / max(0.005, share))
    assert found["red"]["iou"] > 0.4
    assert found["blue"]["iou"] < 1.5 * found["blue"]["cap"]  # of the largest square half a percent is on


def test_concepts_are_listed_by_their_best_unit_and_layers_with_their_detectors(subject, section):
    found = section.facts["concepts"]
    table = section.blocks[0].table

    assert [row[0] for row in table[1:]] == [*sorted(NAMES, key=lambda name: -found[name]["iou"]), "unseen"]
    assert "unseen" not in found
    detected = sum(found[name]["iou"] > 0.04 for name in NAMES)
    assert [layer["detectors"] for layer in section.facts["layers"].values()] == [detected, 0, 0, 0]
    assert [layer["concepts"] for layer in section.facts["layers"].values()] == [detected, 0, 0, 0]
    assert list(section.facts["layers"]) == [layer.name for layer in subject.layers]


def test_pictures_are_bright_where_the_unit_is_on_and_outline_the_mask(section):
    pictures = {picture.caption.split(":")[0]: picture.pixels for picture in section.blocks[0].pictures}

    assert set(pictures) == set(NAMES)
    for name, pixels in pictures.items():
        yellow = (pixels == (255, 220, 0)).all(2)
        assert yellow.sum() > 3 * 2 * SIDES[name]
        bright = (pixels.max(2) > 150) & (pixels.min(2) < 250) & ~yellow  # dimmed, nothing is so bright
        channel = NAMES.index(name)
        others = [other for other in range(3) if other != channel]
        assert (pixels[bright][:, channel] > pixels[bright][:, others].max(1)).all()
    assert sum(((p.max(2) > 150) & (p.min(2) < 150) & (p[..., 2] > 0)).any() for p in pictures.values()) >= 2


def test_masks_of_the_demo_work_out_of_the_box(subject, tmp_path):
    size = {"height": 48, "width": 64, "processes": 1}
    data = draw_dataset(tmp_path / "dataset", 1, 1, 0, **size)
    masks = draw_masks(tmp_path / "masks", 1, 1, 0, **size)

    section = look(changed(subject, samples_of(data / "train"), masks=read_masks(masks)))

    assert section.facts["images"] == 9
    assert {"sky", "road", "grass", "stop", "turn_left"} <= set(section.facts["concepts"])
    assert len(section.blocks[0].pictures) == 12
    for name, found in section.facts["concepts"].items():
        assert 0 < found["share"] < 1, name
        assert 0 <= found["iou"] <= 1


def test_no_more_images_are_compared_than_asked_for(subject):
    assert look(changed(subject, most_images=3)).facts["images"] == 3


def test_what_is_missing_is_said(subject, squares, photos, tmp_path):
    def problem(masks, samples=None):
        with pytest.raises(CannotLookError) as caught:
            look(changed(subject, samples, masks=masks))
        return str(caught.value)

    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "classes.csv").write_text("index,name\n1,red\n")
    Image.new("L", (64, 64)).save(tmp_path / "odd" / "red0.png")

    assert problem(None).startswith("needs --masks: a folder of masks of these images")
    masks = read_masks(squares / "masks")
    assert "has no mask of any of the 24 images" in problem(masks, samples_of(photos))
    assert "show none of the concepts" in problem(read_masks(tmp_path / "odd"))
    Image.new("L", (63, 64)).save(tmp_path / "odd" / "red0.png")
    assert "has 63x64 pixels, its image 64x64" in problem(read_masks(tmp_path / "odd"))


def test_a_network_without_maps_says_so(subject):
    flat = changed(subject)
    flat.layers = ()

    with pytest.raises(CannotLookError, match="has no maps"):
        look(flat)
