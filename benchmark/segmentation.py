"""How well a classifier segments by its score map, by sliding windows at the same places, and by one answer an image.

    python -m benchmark.segmentation --model MODEL.onnx [FINER.onnx ...] --images DIR --masks DIR [--scale S ...]

Score map and windows are enlarged to the image's pixels in the same way, and all three compared with the masks as
`evaluate_bag --masks` does. A window sees nothing of what lies beyond it, a cell of the map does in networks that pad.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.score_map import sliding_windows
from benchmark.support.options import at_least_one
from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import EXIT_OK, DataError
from cnn_perception.image.listing import image_files
from cnn_perception.image.messages import RgbImage, read_image
from cnn_perception.masks.folder import Masks, read_masks
from cnn_perception.masks.scores import Matching, Overlap
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.pipeline.label_map import LabelMap, upsampled_labels
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.pipeline.score_map import dense_scores

Segment = Callable[[RgbImage], LabelMap]
_BATCH = 16


def by_whole_image(model: OnnxModel, image: RgbImage) -> LabelMap:
    """Returns the class of the whole image at each of its pixels, (H, W)."""
    answer = int(Pipeline(model).recognise(image).scores.argmax())
    return np.full(image.shape[:2], answer, np.int32)


def by_score_map(model: OnnxModel, scale: float, image: RgbImage) -> LabelMap:
    """Returns the class of each pixel by the score map, (H, W)."""
    found = dense_scores(model, image, scale)
    return upsampled_labels(found.logits, found.cells, *image.shape[:2])


def by_windows(model: OnnxModel, scale: float, image: RgbImage) -> LabelMap:
    """Returns the class of each pixel by the classifier at a window for each cell of the score map, (H, W)."""
    found = dense_scores(model, image, scale)
    logits = sliding_windows(model, image, found.cells, found.logits.shape, _BATCH)
    return upsampled_labels(logits, found.cells, *image.shape[:2])


def compared(segment: Segment, matching: Matching, masks: Masks, pairs: Sequence[tuple[Path, Path]]) -> Overlap:
    """Returns how well a way to segment fits the masks of images, given as (image, mask)."""
    confusion = matching.nothing()
    for path, mask in ProgressBar(pairs, desc="segmenting", unit="img", leave=False):
        image = read_image(path)
        truth = matching.truth(masks.labels(mask, *image.shape[:2]))
        confusion += matching.confusion(truth, segment(image))
    return matching.overlap(confusion)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.segmentation", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="model files with a score map")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--masks", type=Path, required=True, help="their masks, as for evaluate_bag")
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0], help="as --mask-scale of evaluate_bag (1)")
    parser.add_argument("--every", type=at_least_one, default=1, help="of so many images one is taken (%(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    masks = read_masks(options.masks)
    pairs = masks.paired(image_files(options.images))[:: options.every]
    if not pairs:
        raise DataError(f"{options.masks}: has no mask of any image of {options.images}; name the folder of both")
    print(f"{len(pairs)} images with masks")
    print(f"{'by':15}  {'every':>6}  {'scale':>5}  {'pixels right':>12}  {'mean IoU':>8}")
    for path in options.model:
        model = OnnxModel(path)
        matching = Matching(masks, model.spec.class_names)
        stride = "x".join(f"{step:g}" for step in model.score_map_place().stride)
        for name, scale, segment in _ways(model, options.scale):
            found = compared(segment, matching, masks, pairs)
            print(f"{name:15}  {stride:>6}  {scale:>5}  {_share(found.pixel_accuracy):>12}  {_iou(found.mean_iou):>8}")
    return EXIT_OK


def _ways(model: OnnxModel, scales: Sequence[float]) -> Iterator[tuple[str, str, Segment]]:
    yield "whole image", "", partial(by_whole_image, model)
    for scale in scales:
        yield "score map", f"{scale:g}", partial(by_score_map, model, scale)
        yield "sliding windows", f"{scale:g}", partial(by_windows, model, scale)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _iou(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
