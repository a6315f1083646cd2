from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from demo.digits import write_digits
from training.data.load import DataOptions, list_images
from training.label_errors.examination import Prepared, prepare
from training.label_errors.features import by_hand


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of four digits; not to be changed."""
    folder = tmp_path_factory.mktemp("digits") / "digits"
    write_digits(folder, digits=(0, 1, 2, 7), each=50)
    return folder


@pytest.fixture(scope="session")
def prepared(digits: Path) -> Prepared:
    """The same, measured and described by colours and edges."""
    return prepare(list_images(digits, DataOptions()), by_hand)


@pytest.fixture(scope="session")
def flipped(prepared: Prepared) -> tuple[Prepared, set[int]]:
    """The same with ten wrong labels, and the rows of these."""
    rows = np.random.default_rng(7).choice(200, 10, replace=False).tolist()
    samples = list(prepared.listing.samples)
    for row in rows:
        samples[row] = dataclasses.replace(samples[row], label=(samples[row].label + 1 + row % 3) % 4)
    return dataclasses.replace(prepared, listing=prepared.listing.keep(tuple(samples))), set(rows)
