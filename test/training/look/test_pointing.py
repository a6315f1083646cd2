"""Owns: the pointing game on masks made to be hit or missed. Leaves to others: a single hit (test_evidence), masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import subject_of
from PIL import Image

from cnn_perception.image.messages import read_image
from cnn_perception.masks.folder import read_masks
from training.look.pointing import pointing
from training.look.sections.trust import activated


def write_masks(folder, subject, is_hit):
    """A mask of each validation image: a square where the map of its answer is strongest, or far from there."""
    network = activated(subject)
    folder.mkdir()
    rows = [f"{index + 1},{name}" for index, name in enumerate(subject.class_names)]
    (folder / "classes.csv").write_text("\n".join(["index,name", *rows]) + "\n")
    count = 0
    for sample in subject.samples:
        if sample.part != "val":
            continue
        picture = read_image(sample.path)
        with torch.no_grad():
            logits, _, activation, *_ = network(subject.tensor(picture)[None])
        cells = activation[0].numpy()
        row, column = np.unravel_index(int(cells.argmax()), cells.shape)
        height, width = picture.shape[:2]
        centre = ((row + 0.5) / cells.shape[0], (column + 0.5) / cells.shape[1])
        if not is_hit:  # the opposite half, along both sides
            centre = tuple((place + 0.5) % 1 for place in centre)
        mask = np.zeros((height, width), np.uint8)
        top, left = int(centre[0] * height), int(centre[1] * width)
        down, across = height // 8, width // 8  # half a cell of the map
        mask[max(top - down, 0) : top + down, max(left - across, 0) : left + across] = int(logits.argmax()) + 1
        (folder / sample.path.parent.name).mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / sample.path.parent.name / f"{sample.path.stem}.png")
        count += 1
    return count


@pytest.mark.parametrize("is_hit", [True, False])
def test_maps_that_point_at_the_masks_hit_and_others_miss(is_hit, photos, tmp_path):
    count = write_masks(tmp_path / "masks", subject_of("resnet18", 128, photos), is_hit)
    subject = subject_of("resnet18", 128, photos, masks=read_masks(tmp_path / "masks"))

    blocks, facts = pointing(subject, activated(subject))

    assert facts["images"] == count
    assert facts["map"][0] == float(is_hit)
    assert f"of {count} images" in blocks[0].note


def test_without_masks_or_without_the_answers_in_them_the_section_says_why(photos, tmp_path):
    subject = subject_of("resnet18", 128, photos)
    assert pointing(subject, activated(subject)) == ([], {"missing": "needs --masks"})

    folder = tmp_path / "masks"
    write_masks(folder, subject, is_hit=True)
    (folder / "classes.csv").write_text("index,name\n1,sky\n2,road\n3,tree\n")
    other = subject_of("resnet18", 128, photos, masks=read_masks(folder))
    assert "shows the class" in pointing(other, activated(other))[1]["missing"]
    next(folder.rglob("*.png")).write_bytes(b"no picture")
    assert "is no PNG" in pointing(other, activated(other))[1]["missing"]
