"""Small pictures of labelled images, a chunk at a time, so that memory does not grow with the data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import InputTensor, preprocess
from training.data import scan
from training.data.records import Sample

Pixels = npt.NDArray[np.float32]
"""(n, 3, rows, columns) in [0, 1], channels R, G, B."""

CHUNK = 64
"""Images that are in memory at a time, each as small pictures."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some of the images that could be read, each in every size that was asked for."""

    samples: tuple[Sample, ...]
    pixels: Mapping[InputSpec, Pixels]


def small(spec: InputSpec, side: int, multiple: int = 1) -> InputSpec:
    """Returns a network's preprocessing for a picture of at most `side` pixels of the same part of the image.

    Args:
        spec: What the network sees.
        side: Pixels of the longer side.
        multiple: Of which both sides are whole ones, at least two.
    """
    scale = side / max(spec.height, spec.width)
    rows, columns = (max(2, round(length * scale / multiple)) * multiple for length in (spec.height, spec.width))
    colours = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return InputSpec(rows, columns, spec.resize_mode, spec.crop_fraction, spec.interpolation, *colours)


def read(samples: Sequence[Sample], specs: Sequence[InputSpec], title: str) -> Iterator[Chunk]:
    """Yields images decoded and resized as the robot does it; those that can no longer be read are left out.

    Args:
        samples: The images.
        specs: The sizes.
        title: What the progress bar says.
    """

    def pictures(sample: Sample) -> list[InputTensor] | None:
        image = scan.picture(sample.path)
        return None if image is None else [preprocess(image, spec) for spec in specs]

    with (
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
        ProgressBar(total=len(samples), desc=title, unit="img", leave=False) as bar,
    ):
        for start in range(0, len(samples), CHUNK):
            chunk = samples[start : start + CHUNK]
            found = list(pool.map(pictures, chunk))
            kept = [(sample, made) for sample, made in zip(chunk, found, strict=True) if made is not None]
            if kept:
                sizes = zip(*(made for _, made in kept), strict=True)
                stacks = {spec: np.stack(size) for spec, size in zip(specs, sizes, strict=True)}
                yield Chunk(tuple(sample for sample, _ in kept), stacks)
            bar.update(len(chunk))
