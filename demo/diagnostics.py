"""Reads the values that the perception node publishes on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnn_perception.stream.frame_counters import STAGE_KEY


def diagnostic_values(message: Any) -> dict[str, str]:  # noqa: ANN401 messages are untyped
    """Returns the values of all statuses of a diagnostic_msgs/DiagnosticArray by key."""
    values = {}
    for status in message.status:
        for pair in status.values:
            values[pair.key] = pair.value
    return values


def median_latencies_ms(values: Mapping[str, str]) -> dict[str, str]:
    """Returns the median milliseconds of the node's stages, as the node writes them, by the names of the stages."""
    medians = {}
    for key, value in values.items():
        if key.endswith(STAGE_KEY):
            medians[key.split()[0]] = value.split()[0]
    return medians
