"""Owns: the loop that runs a network over images. Leaves to others: what is made of its outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_images import write_folder
from torch import nn

from cnn_perception.errors import DataError
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.pipeline.preprocess import preprocess
from training.batches.loader import Images, Order, data_loader
from training.calibration.ensemble import TenViews
from training.config import make
from training.data.records import Sample
from training.scoring.predict import predict, together

CPU = torch.device("cpu")
SPEC = make(data="d", output="o", input_size=(24, 32)).input


class Brightness(nn.Module):
    """The mean of each image in half precision; remembers whether it was training and whether gradients were kept."""

    def forward(self, images):
        self.seen_training, self.keeps_gradients = self.training, torch.is_grad_enabled()
        return images.mean((1, 2, 3)).half()[:, None]


@pytest.fixture
def samples(tmp_path):
    """Five images, of which the second and the last are no images any more."""
    paths = sorted(write_folder(tmp_path, {"go": 3, "stop": 2}).rglob("*.png"))
    for row in (1, 4):
        paths[row].write_bytes(b"no image")
    return tuple(Sample(path, int(path.parent.name == "stop"), "val") for path in paths)


def loader(images, batch_size=2):
    return data_loader(images, Order(len(images), batch_size, None), 0, False)


def test_images_that_can_be_read_come_in_order_with_their_labels_in_float32(samples):
    network = Brightness().train()

    found = together(predict(network, loader(Images(samples, SPEC)), CPU, "val"), "val")

    assert found.rows.tolist() == [0, 2, 3]
    assert found.labels.tolist() == [0, 0, 1]
    assert found.outputs.dtype == torch.float32
    assert (network.seen_training, network.keeps_gradients, network.training) == (False, False, False)


def test_the_outputs_are_the_networks_own_of_the_robots_preprocessing(samples):
    images = [preprocess(decode_file_bytes(samples[row].path.read_bytes()), SPEC) for row in (0, 2, 3)]

    found = together(predict(Brightness(), loader(Images(samples, SPEC)), CPU, "val"), "val")

    assert found.outputs[:, 0].numpy() == pytest.approx([image.mean() for image in images], abs=2e-3)


def test_of_several_views_each_is_an_image_of_its_own(samples):
    crops = TenViews(samples, dataclasses.replace(SPEC, resize_mode="crop", crop_fraction=0.5))

    found = together(predict(Brightness(), loader(crops), CPU, "val"), "val")

    assert (len(found.rows), len(found.outputs)) == (3, 30)
    of_first = found.outputs[:10, 0].numpy()
    assert of_first[:5] == pytest.approx(of_first[5:], abs=2e-3)  # a mirrored view is as bright
    assert np.ptp(of_first) > 0


def test_after_each_batch_something_may_end_the_loop_even_where_no_image_was_read(samples):
    calls = []

    list(predict(Brightness(), loader(Images(samples, SPEC), 1), CPU, "val", after_batch=lambda: calls.append(1)))
    assert len(calls) == 5

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(predict(Brightness(), loader(Images(samples, SPEC)), CPU, "val", after_batch=interrupt))


def test_without_any_image_the_part_is_named(samples):
    lost = tuple(samples[row] for row in (1, 4))

    with pytest.raises(DataError, match="val: none of the images can be read"):
        together(predict(Brightness(), loader(Images(lost, SPEC)), CPU, "val"), "val")
