"""Measures how a node answers while something holds beside it, in turn with nothing: the answers' rate, and their age.

The ratios are taken round by round, because the speed of a shared machine drifts. An answer's age is that at which it
arrives in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from benchmark.support.node_client import NodeClient
from benchmark.support.pairs import Target

States: TypeAlias = Mapping[str, Callable[[], AbstractContextManager[object]]]
"""By name what holds during a measurement; the first is that to which the others are compared."""

NODE = "/perception_node"
TOPIC = f"{NODE}/classification"
RATE = Target(0.95, is_lower_bound=True)
MEDIAN_AGE = Target(1.15)
P99_AGE = Target(1.5)
_SETTLING_S = 2.0
"""After a switch, before measuring: discovery, and what is under way."""


@dataclass(frozen=True)
class Answers:
    """What was answered in one measurement.

    Attributes:
        rate_hz: Answers a second.
        median_age_ms: From the image's stamp to its answer's arrival.
        p99_age_ms: The same, which one of a hundred exceeds.
    """

    rate_hz: float
    median_age_ms: float
    p99_age_ms: float


def measure(client: NodeClient, seconds: float) -> Answers:
    """Returns the answers of some seconds, once what came before has settled."""
    client.spin(_SETTLING_S)
    client.ages_s[TOPIC].clear()
    rate_hz = client.rates_hz(seconds)[TOPIC]
    median_ms, p99_ms = np.percentile(np.array(client.ages_s[TOPIC]) * 1e3, (50, 99))
    return Answers(rate_hz, float(median_ms), float(p99_ms))


def compare(states: States, answers: Callable[[], Answers], rounds: int) -> list[dict[str, Answers]]:
    """Returns the answers of each round by state: all of them are measured in turn."""
    found = []
    for number in range(rounds):
        by_state: dict[str, Answers] = {}
        for name, state in states.items():
            with state():
                by_state[name] = answers()
        found.append(by_state)
        texts = [
            f"{name} {one.rate_hz:6.2f}/s {one.median_age_ms:6.1f} ms (p99 {one.p99_age_ms:.0f})"
            for name, one in by_state.items()
        ]
        print(f"  round {number + 1}: {', '.join(texts)}", flush=True)
    return found


def ratios(
    rounds: Sequence[Mapping[str, Answers]], yardsticks: Collection[str] = ()
) -> dict[str, tuple[list[float], Target | None]]:
    """Returns what was measured in each state over that in the first, round by round, and what is required of it.

    Args:
        rounds: Answers by state.
        yardsticks: States of which nothing is required: they show what the machine itself leaves to be reached.
    """
    first, *others = rounds[0]
    found: dict[str, tuple[list[float], Target | None]] = {}
    for state in others:
        pairs = [(one[state], one[first]) for one in rounds]
        figures: dict[str, tuple[list[float], Target]] = {
            "answers a second": ([of.rate_hz / over.rate_hz for of, over in pairs], RATE),
            "median age": ([of.median_age_ms / over.median_age_ms for of, over in pairs], MEDIAN_AGE),
            "p99 age": ([of.p99_age_ms / over.p99_age_ms for of, over in pairs], P99_AGE),
        }
        for figure, (values, target) in figures.items():
            found[f"{state} / {first}, {figure}"] = (values, None if state in yardsticks else target)
    return found
