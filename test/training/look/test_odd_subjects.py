"""Owns: networks, images and amounts that a look cannot rely on. Leaves to others: the sections on usual ones."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import checkpoint_of
from looked_at import opened, samples_of, subject_of
from PIL import Image
from tiny_images import write_folder

from cnn_perception.errors import DataError, FrameError
from training.look import sections, survey
from training.look.section import CannotLookError, Section
from training.look.sections import occlusion, trust, visualisation
from training.look.subject import Layer, Options, Subject
from training.networks import backbones

WRITTEN = "layers: conv 8 3x3 p1, relu, pool 2x2, conv 16 3x3 p1, relu, pool 2x2, fc"


@pytest.fixture(scope="module")
def small(photos: Path) -> Subject:
    """A network of two layers over `photos`; not to be changed."""
    saved = checkpoint_of(WRITTEN, backbones.build(WRITTEN, 3, size=(32, 32)), (32, 32), ["go", "stop", "turn"])
    return opened(saved, samples_of(photos), Options())


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    monkeypatch.setattr(visualisation, "_STEPS", 2)
    monkeypatch.setattr(visualisation, "_CLASS_STEPS", 2)
    monkeypatch.setattr(occlusion, "_square", lambda subject: (subject.checkpoint.input.height // 2,) * 2)


def all_sections(subject: Subject) -> dict[str, Section | str]:
    """What each section shows, or why it shows nothing."""

    def made(name: str) -> Section | str:
        try:
            return sections.section(name)(subject)
        except CannotLookError as error:
            return str(error)

    return {name: made(name) for name in sections.NAMES}


def without_images(subject: Subject) -> Subject:
    return opened(subject.checkpoint, [], Options())


def test_without_images_the_filters_are_shown_and_all_else_says_what_is_missing(small):
    found = all_sections(without_images(small))

    assert isinstance(found.pop("filters"), Section)
    assert isinstance(found["dissection"], str)
    assert "--masks" in found.pop("dissection")
    for name, why in found.items():
        assert isinstance(why, str), name
        assert "--data" in why


def test_a_picture_of_the_users_is_explained_though_there_is_no_data(small, photos):
    subject = opened(small.checkpoint, [], Options(images=(photos / "go" / "00.png",)))

    found = all_sections(subject)

    assert {name for name, section in found.items() if isinstance(section, Section)} == {
        "filters", "visualisation", "occlusion", "trust",
    }  # fmt: skip


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of two classes, of which the first validation image of each can no longer be read."""
    root = write_folder(tmp_path_factory.mktemp("damaged"), {"go": 8, "stop": 8})
    (root / "go" / "03.png").write_bytes(b"\x89PNG damaged")
    (root / "stop" / "03.png").unlink()
    (root / "stop" / "03.png").symlink_to("nowhere")
    return root


def test_images_that_can_no_longer_be_read_are_passed_over(damaged):
    subject = subject_of("resnet18", 64, damaged)

    assert [one.path.relative_to(damaged).as_posix() for one in subject.shown] == ["go/07.png", "stop/07.png"]
    judged = trust.look(subject).facts["images"]
    assert sorted(judged) == sorted(str(one.path) for one in subject.shown)
    assert len(subject.survey.samples) == 14


def test_a_picture_that_was_asked_for_and_cannot_be_read_is_named(damaged, residual):
    with pytest.raises(FrameError, match=r"03\.png"):
        opened(residual.checkpoint, [], Options(images=(damaged / "go" / "03.png",)))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 2)])
def test_pictures_of_any_shape_are_shown(size, small, tmp_path):
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "odd.png")
    options = Options(images=(tmp_path / "odd.png",), units=1, visualised_units=1, most_images=8)
    subject = opened(small.checkpoint, small.samples, options)

    for name in ("layers", "occlusion", "neighbours", "trust"):
        try:
            assert sections.section(name)(subject).blocks
        except CannotLookError as error:
            pytest.fail(f"{name}: {error}")


def test_weights_that_are_no_numbers_are_refused_in_one_line(photos):
    model = backbones.build("squeezenet1_1", 3)
    with torch.no_grad():
        model.get_submodule("features.0").weight[3] = torch.nan

    with pytest.raises(DataError, match=r"features\.0\.weight .* no finite number: the training failed"):
        subject_of("squeezenet1_1", 64, photos, model)


def test_answers_that_are_no_numbers_are_refused_with_the_image(photos):
    model = backbones.build("squeezenet1_1", 3)
    with torch.no_grad():
        model.get_submodule("features.0").weight.fill_(1e38)
    subject = subject_of("squeezenet1_1", 64, photos, model)

    with pytest.raises(DataError, match=r"\.png: .* no finite number"):
        _ = subject.survey


def test_a_network_that_has_died_is_shown_as_far_as_that_goes(photos):
    model = backbones.build("squeezenet1_1", 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    found = all_sections(subject_of("squeezenet1_1", 64, photos, model, units=1, visualised_units=1))

    cannot = {name: why for name, why in found.items() if isinstance(why, str)}
    assert set(cannot) == {"concepts", "dissection"}
    assert "has died" in cannot["concepts"]


def test_the_maps_that_are_kept_take_so_much_memory_and_are_of_all_classes(photos, monkeypatch):
    subject = subject_of("resnet18", 64, photos)
    everything = subject.survey.features
    monkeypatch.setattr(survey, "_MAP_BYTES", 7 * everything[0].nbytes)

    few = subject_of("resnet18", 64, photos).survey

    assert len(few.features) == len(few.mapped) <= 7
    assert {sample.label for sample in few.mapped} == {0, 1, 2}
    rows = [subject.survey.samples.index(sample) for sample in few.mapped]
    np.testing.assert_allclose(few.features, everything[rows], atol=1e-5)


@pytest.mark.parametrize(("side", "batch"), [(64, 16), (224, 16), (448, 4), (900, 1), (2000, 1)])
def test_of_large_images_fewer_are_computed_at_a_time(side, batch, residual):
    large = copy.copy(residual)
    size = dataclasses.replace(residual.checkpoint.input, height=side, width=side)
    large.checkpoint = dataclasses.replace(residual.checkpoint, input=size)

    assert large.batch == batch


def test_a_plane_of_many_images_shows_some_of_them(residual, monkeypatch):
    monkeypatch.setattr("training.look.sections.neighbours._MOST_MAPPED", 16)

    found = sections.section("neighbours")(residual)

    assert any(block.note.startswith("16 images.") for block in found.blocks)


def test_the_name_of_a_layer_is_safe_in_that_of_a_file(residual):
    layer = residual.layers[0]

    odd: Layer = dataclasses.replace(layer, name="../a b.0/größe")

    assert odd.stem == "___a_b_0_gr__e"


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_every_section_is_made_of_other_tasks_too(task, small, photos):
    numbers = {"units": ("m", "", ""), "scaling": ((10.0, 2.0),) * 3} if task == "regression" else {}
    saved = dataclasses.replace(small.checkpoint, task=task, **numbers)
    values = {0: (1.0, 0.0, 1.0), 1: (0.0, 1.0, 0.0), 2: (1.0, 1.0, 0.0)}
    samples = [dataclasses.replace(sample, values=values[sample.label], label=0) for sample in samples_of(photos)]
    subject = opened(saved, samples, Options(units=1, visualised_units=1))

    found = all_sections(subject)

    assert [name for name, section in found.items() if isinstance(section, str)] == ["dissection"]


@pytest.mark.parametrize(
    ("name", "size", "cannot"),
    [
        ("lenet5", 32, {"dissection", "concepts", "trust"}),
        ("mlp", 28, {"filters", "layers", "patches", "dissection", "concepts", "trust"}),
        ("layers: conv 8 3x3, relu, pool 2x2, fc", 16, {"dissection"}),
    ],
)
def test_of_grey_and_written_networks_the_sections_are_made_that_can_be(name, size, cannot, photos):
    model = backbones.build(name, 3, size=(size, size))
    saved = checkpoint_of(name, model, (size, size), ["go", "stop", "turn"])
    subject = opened(saved, samples_of(photos), Options(units=1, visualised_units=1))

    found = all_sections(subject)

    assert {name for name, section in found.items() if isinstance(section, str)} == cannot


def test_a_network_of_a_thousand_classes_is_looked_at_like_one_of_three(photos):
    model = backbones.build(WRITTEN, 1000, size=(32, 32))
    names = [f"class {index}" for index in range(1000)]
    saved = checkpoint_of(WRITTEN, model, (32, 32), names)
    subject = opened(saved, samples_of(photos), Options(units=1, visualised_units=1))

    found = all_sections(subject)

    assert [name for name, section in found.items() if isinstance(section, str)] == ["dissection"]
