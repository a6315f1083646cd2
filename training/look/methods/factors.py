"""Non-negative factors of activations: directions that many places of many images share, and their part in an output.

Sources: Lee and Seung 1999, Learning the Parts of Objects by Non-negative Matrix Factorization; Collins, Achanta and
Suesstrunk 2018, Deep Feature Factorization for Concept Discovery; Fel et al. 2023, CRAFT.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

Numbers = npt.NDArray[np.float32]

_STEPS = 200
_RANDOM_SEEDS = (1, 2)


@dataclass(frozen=True, eq=False)
class Factors:
    """A non-negative matrix as a sum of few: rows = amounts x directions, as near as may be.

    Attributes:
        amounts: (n, k) how much of each factor every row holds.
        directions: (k, C) of unit length.
        kept: Share of the sum of squares that the factors explain, at most 1.
        matches: (k,) cosine of each direction with the nearest one of other starts, the lowest of these.
    """

    amounts: Numbers
    directions: Numbers
    kept: float
    matches: Numbers


@dataclass(frozen=True, eq=False)
class Account:
    """A mean output, divided among factors: contributions + rest + bias = output.

    Attributes:
        contributions: (k,) of each factor.
        rest: What is not in the factors.
        bias: What does not depend on the image, where the head is linear.
        output: The mean over the images.
        r2: Share of the output's variance over the images that the factors and the bias explain, at most 1; below 0
            where they are a worse account than the mean is. NaN of an output that does not vary.
    """

    contributions: Numbers
    rest: float
    bias: float
    output: float
    r2: float

    @property
    def shares(self) -> Numbers | None:
        """(k,) the parts in the output; None where it is so near 0 that they would say nothing."""
        if abs(self.output) <= 0.1 * float(np.abs(self.contributions).sum()):
            return None
        return np.asarray(self.contributions / np.float32(self.output))


def factorise(rows: Numbers, count: int) -> Factors:
    """Finds non-negative factors, from a start by singular vectors (NNDSVDa), and how stable they are.

    Args:
        rows: (n, C), none negative, not all 0.
        count: Factors that are looked for, k; there are fewer of a matrix of lower rank.
    """
    rank = min(count, *rows.shape)
    size = np.float32(np.sqrt(np.square(rows, dtype=np.float64).mean()))
    rows = rows / size  # the solver takes what is below some fixed numbers for 0
    amounts, directions = _fit(rows, rank, "nndsvda", 0)
    others = [_fit(rows, rank, "random", seed)[1] for seed in _RANDOM_SEEDS]
    matches = np.min([(directions @ other.T).max(axis=1, initial=0) for other in others], axis=0)
    # |X - UV|^2 without the matrix UV, which is as large as X
    total = float(np.square(rows, dtype=np.float64).sum())
    cross = float((amounts.astype(np.float64) * (rows @ directions.T)).sum())
    fitted = float(((amounts.T @ amounts).astype(np.float64) * (directions @ directions.T)).sum())
    return Factors(amounts * size, directions, (2 * cross - fitted) / total, matches)


def _fit(rows: Numbers, count: int, start: str, seed: int) -> tuple[Numbers, Numbers]:
    """Returns amounts (n, k) and directions (k, C) of unit length, without factors that are 0."""
    solver = NMF(count, init=start, random_state=seed, max_iter=_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is reached is measured, and said, as `kept`
        amounts = np.asarray(solver.fit_transform(rows), np.float32)
    directions = np.asarray(solver.components_, np.float32)
    lengths = np.asarray(np.linalg.norm(directions, axis=1), np.float32)
    found = (lengths > 0) & (amounts.max(axis=0) > 0)
    units = np.asarray(directions[found] / lengths[found, None], np.float32)
    return amounts[:, found] * lengths[found], units


def account(amounts: Numbers, directions: Numbers, gradients: Numbers, outputs: Numbers, bias: float) -> Account:
    """Divides an output among factors by its gradient: exact where the output is linear in the features.

    Args:
        amounts: (N, P, k) of each factor at the P cells of N images.
        directions: (k, C).
        gradients: (N, P, C) of the output to the features.
        outputs: (N,).
        bias: The output of features that are all 0, where that is known; else 0, and `rest` holds it.
    """
    slopes = gradients @ directions.T  # (N, P, k)
    parts = (amounts * slopes).sum(axis=1)
    left = outputs - bias - parts.sum(axis=1)
    return Account(
        contributions=np.asarray(parts.mean(axis=0), np.float32),
        rest=float(left.mean()),
        bias=bias,
        output=float(outputs.mean()),
        r2=_explained(outputs, left),
    )


def _explained(outputs: Numbers, left: Numbers) -> float:
    spread = float(np.square(outputs - outputs.mean()).sum())
    return 1 - float(np.square(left).sum()) / spread if spread > 0 else float("nan")


def non_negative(features: npt.NDArray[np.floating]) -> Numbers:
    """Returns features (..., C) as they are, or, where some are negative, as (..., 2C): above 0, and below 0."""
    exact = features.astype(np.float32)
    if exact.min(initial=0) >= 0:
        return exact
    return np.concatenate([np.maximum(exact, 0), np.maximum(-exact, 0)], axis=-1)
