"""The time of the preprocessing of an image, over that of torchvision's reference, and their largest difference.

    python -m benchmark.preprocessing

From an RGB array, as a camera gives it, to a normalised 224x224 float32 tensor. The reference is what torchvision's
classification weights were evaluated with: Resize(256), antialiased, CenterCrop(224), ToTensor, Normalize. Both have
one thread and take turns; what is counted is the time on the processor.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import PIL
import torch
from PIL import Image
from torchvision import transforms  # type: ignore[import-untyped]

from benchmark.support.options import at_least_one, option_parser
from benchmark.support.pairs import Target, machine, processor_ms, report
from benchmark.support.processes import draw_images
from benchmark.support.transforms import TENSOR
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from cnn_perception.pipeline.preprocess import preprocess

SPEC = InputSpec(224, 224, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
_REFERENCE = transforms.Compose(
    [
        transforms.Resize(256, antialias=True),
        transforms.CenterCrop(224),
        *TENSOR,
    ]
)
TARGETS = {(480, 640): Target(0.25), (720, 1280): Target(0.18)}
"""By (height, width)."""
_ERROR = Target(1.0)
_REPEATS = 10


def reference(image: RgbImage) -> torch.Tensor:
    """Returns torchvision's input, (3, 224, 224) float32, of an image (H, W, 3) uint8."""
    tensor: torch.Tensor = _REFERENCE(Image.fromarray(image))
    return tensor


def largest_error(image: RgbImage) -> float:
    """Returns the largest difference of the two, in steps of 1/255 of the image's range."""
    difference = np.abs(preprocess(image, SPEC) - reference(image).numpy()).max(axis=(1, 2))
    return float((difference * 255 * np.array(IMAGENET_STD)).max())


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("preprocessing", __doc__)
    parser.add_argument("--rounds", type=at_least_one, default=41, help="pairs of measurements (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{machine()}, Pillow {PIL.__version__}")
    for (height, width), target in TARGETS.items():
        images = draw_images(height, width)
        noise = RgbImage(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
        pairs = []
        for number in range(options.rounds):
            image = images[number % len(images)]
            own_ms = processor_ms(partial(preprocess, image, SPEC), _REPEATS)
            pairs.append((own_ms, processor_ms(partial(reference, image), _REPEATS)))
        own_ms, reference_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
        error = max(largest_error(image) for image in [*images, noise])
        print(f"{width}x{height}: {own_ms:.2f} ms, torchvision {reference_ms:.2f} ms")
        ratios = [own / other for own, other in pairs]
        report(f"{width}x{height}", "preprocessing / torchvision", ratios, target)
        # float32 turns a difference of one level into 1.00002
        print(f"  largest error: {error:.3f} grey levels, {_ERROR.verdict(round(error, 3))}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
