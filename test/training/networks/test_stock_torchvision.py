"""Owns: that features are those of torchvision's own network and transforms. Leaves to others: each architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paths import SHARED_DATA
from PIL import Image
from tiny_images import scene
from torchvision import models
from torchvision.transforms import v2

from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from cnn_perception.pipeline.preprocess import preprocess
from training.networks import backbones

SPEC = InputSpec(224, 224, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
PUBLISHED = [v2.Resize(256, antialias=True), v2.CenterCrop(224)]
NORMALISED = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
IN_FLOAT = v2.Compose([v2.ToImage(), NORMALISED[0], *PUBLISHED, NORMALISED[1]])
IN_BYTES = v2.Compose([*PUBLISHED, v2.ToImage(), *NORMALISED])
"""On a Pillow image, whose resize rounds to whole grey levels after each of its two passes."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = [path for path in sorted((SHARED_DATA / "photos").glob("*")) if path.suffix in {".png", ".jpg"}]
    drawn = tmp_path_factory.mktemp("drawn")
    for number, (height, width) in enumerate([(300, 451), (375, 500), (500, 333)]):
        found.append(drawn / f"{number}.jpg")
        noise = np.random.default_rng(number).integers(-40, 40, (height, width, 3))
        Image.fromarray(np.clip(scene(number, height, width) + noise, 0, 255).astype(np.uint8)).save(found[-1])
    return found


@pytest.fixture(scope="module")
def networks():
    """Torchvision's network up to its last layer, and what is cut out of the same one here."""
    torch.manual_seed(0)
    stock = models.resnet18()
    own = backbones.build("resnet18", 1000)
    own.load_state_dict(stock.state_dict())
    cut = backbones.split(own, 224, 224)
    stock.fc = torch.nn.Identity()
    return stock.eval(), torch.nn.Sequential(cut.body, cut.neck).eval()


@torch.inference_mode()
def test_features_are_those_of_torchvisions_network_and_transforms(files, networks):
    stock, own = networks
    for path in files:
        image = Image.open(path).convert("RGB")
        features = own(torch.from_numpy(preprocess(decode_file_bytes(path.read_bytes()), SPEC))[None])

        expected = stock(IN_FLOAT(image)[None])

        assert torch.linalg.norm(features - expected) <= 1e-4 * torch.linalg.norm(expected), path


@torch.inference_mode()
def test_what_differs_from_transforms_of_bytes_is_their_rounding_of_grey_levels(files, networks):
    """Some percent of a feature: the mean of two roundings is 0.3 grey levels. The network adds nothing of its own."""
    stock, own = networks
    for path in files:
        rounded = IN_BYTES(Image.open(path).convert("RGB"))
        here = torch.from_numpy(preprocess(decode_file_bytes(path.read_bytes()), SPEC))

        grey = (rounded - here).abs() * torch.tensor(IMAGENET_STD).reshape(3, 1, 1) * 255
        assert grey.max() <= 1.5
        assert grey.mean() <= 0.35
        assert torch.allclose(own(rounded[None]), stock(rounded[None]), rtol=1e-5, atol=1e-6)
