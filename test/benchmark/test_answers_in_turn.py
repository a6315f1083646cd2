"""Owns: in which turn a benchmark measures what dashboards and viewers cost, and over what. Leaves to others: these."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from benchmark.support.answers_in_turn import Answers, compare, ratios


def test_every_state_holds_while_it_is_measured_and_at_no_other_time_and_all_are_measured_in_turn(capsys):
    events: list[str] = []

    @contextmanager
    def state(name: str):
        events.append(f"{name} begins")
        yield
        events.append(f"{name} ends")

    def answers() -> Answers:
        events.append("measured")
        return Answers(len(events), 1.0, 1.0)

    found = compare({"without": lambda: state("without"), "with": lambda: state("with")}, answers, 2)

    one_round = ["without begins", "measured", "without ends", "with begins", "measured", "with ends"]
    assert events == 2 * one_round
    assert [{name: one.rate_hz for name, one in each.items()} for each in found] == [
        {"without": 2, "with": 5},
        {"without": 8, "with": 11},
    ]
    assert "round 2: without   8.00/s" in capsys.readouterr().out


def test_every_state_is_compared_with_the_first_of_its_own_round():
    rounds = [
        {"none": Answers(40.0, 10.0, 20.0), "idle": Answers(40.0, 11.0, 20.0), "open": Answers(36.0, 15.0, 60.0)},
        {"none": Answers(20.0, 20.0, 50.0), "idle": Answers(19.0, 20.0, 60.0), "open": Answers(20.0, 22.0, 50.0)},
    ]

    found = ratios(rounds, yardsticks={"idle"})

    assert {name: values for name, (values, _) in found.items()} == {
        "idle / none, answers a second": pytest.approx([1.0, 0.95]),
        "idle / none, median age": pytest.approx([1.1, 1.0]),
        "idle / none, p99 age": pytest.approx([1.0, 1.2]),
        "open / none, answers a second": pytest.approx([0.9, 1.0]),
        "open / none, median age": pytest.approx([1.5, 1.1]),
        "open / none, p99 age": pytest.approx([3.0, 1.0]),
    }
    required = [target and target.is_lower_bound for _, target in found.values()]
    assert required == [None, None, None, True, False, False]
