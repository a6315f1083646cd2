"""Owns: how often a node's log repeats itself. The clock is the test's."""

from __future__ import annotations

import threading

from node_parts import SaidLogger

from cnn_perception.ros.throttled_log import ThrottledLog


class Bench:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.logger = SaidLogger()
        self.log = ThrottledLog(self.logger, lambda: self.now_s)

    def warn_at(self, now_s: float, key: str, text: str) -> None:
        self.now_s = now_s
        self.log.warn(key, text)

    @property
    def warned(self) -> list[str]:
        return self.logger.texts("warning")


def test_same_warning_comes_again_only_after_five_seconds():
    bench = Bench()
    for now_s in (100.0, 100.1, 104.9, 105.0, 109.9, 110.0):
        bench.warn_at(now_s, "silence", f"at {now_s}")
    assert bench.warned == ["at 100.0", "at 105.0", "at 110.0"]


def test_warnings_of_other_keys_are_not_held_back():
    bench = Bench()
    bench.warn_at(100.0, "front silence", "front")
    bench.warn_at(100.0, "rear silence", "rear")
    assert bench.warned == ["front", "rear"]


def test_many_threads_that_warn_at_once_log_one_line():
    bench = Bench()
    together = threading.Barrier(8)

    def warn() -> None:
        together.wait()
        bench.log.warn("key", "text")

    threads = [threading.Thread(target=warn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.warned == ["text"]


def defect(kind: type[Exception], elsewhere: bool = False) -> Exception:
    """An exception that was raised at one of two places."""
    try:
        if elsewhere:
            raise kind("there")
        raise kind("here")
    except kind as error:
        return error


def test_traceback_of_a_place_is_logged_once_whatever_it_says():
    bench = Bench()
    for kind in (ValueError, ValueError, KeyError):
        bench.log.defect(defect(kind))
    (text,) = bench.logger.texts("error")
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: here")
    bench.log.defect(defect(ValueError, elsewhere=True))
    assert len(bench.logger.texts("error")) == 2


def said_lasting(bench: Bench, until_s: int, text: str = "no images") -> list[int]:
    """After how many seconds a trouble that lasts is said, which is told every second."""
    seconds = []
    for second in range(until_s):
        bench.now_s = 100.0 + second
        before = len(bench.warned)
        bench.log.lasts("silence", text)
        seconds += [second] * (len(bench.warned) - before)
    return seconds


def test_trouble_that_lasts_is_said_at_once_and_then_ever_more_seldom_down_to_once_an_hour():
    bench = Bench()
    after_first_hours = [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980, 14580]
    assert said_lasting(bench, 14_600) == after_first_hours
    assert set(bench.warned) == {"no images"}


def test_trouble_whose_cause_changes_is_said_again_but_not_all_the_time():
    bench = Bench()
    bench.log.lasts("silence", "nobody publishes")
    for now_s, text in ((101.0, "wrong type"), (105.0, "wrong type"), (106.0, "wrong type"), (165.0, "wrong type")):
        bench.now_s = now_s
        bench.log.lasts("silence", text)
    assert bench.warned == ["nobody publishes", "wrong type", "wrong type"]


def test_end_of_a_trouble_is_said_once_and_the_next_one_at_once():
    bench = Bench()
    bench.log.is_over("silence", "images again")
    assert bench.logger.said == []
    bench.log.lasts("silence", "no images")
    bench.log.is_over("silence", "images again")
    bench.log.is_over("silence", "images again")
    bench.log.lasts("silence", "no images")
    assert bench.logger.said == [("warning", "no images"), ("info", "images again"), ("warning", "no images")]
