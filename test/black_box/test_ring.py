"""Owns: which messages a ring holds. Oracle: the same by a list that is filtered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cnn_perception.black_box.ring import Kept, Ring

NS = 10**9


def message(time_s: float, size: int = 0) -> Kept:
    return Kept("/t", "std_msgs/msg/String", int(time_s * NS), time_s, bytes(size))


SMALL = message(0.0).size


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 500)), max_size=40), st.floats(0.5, 5), st.integers(300, 20_000)
)
def test_ring_holds_the_newest_that_fit_into_seconds_and_bytes(steps, seconds, most_bytes):
    ring = Ring(seconds, most_bytes)
    everything = []
    now_s = 0.0
    for step_s, size in steps:
        now_s += step_s
        everything.append(message(now_s, size))
        ring.add(everything[-1])

    in_time = [one for one in everything if one.received_s >= now_s - seconds]
    held = ring.after(-1.0)
    assert held == in_time[len(in_time) - len(held) :]  # the newest of them, none missing in between
    assert ring.size == sum(one.size for one in held) <= most_bytes
    if len(held) < len(in_time):
        assert ring.is_cut


def test_what_was_received_exactly_as_long_ago_is_held_and_what_is_older_is_not():
    ring = Ring(2.0, 10**6)
    for time_s in (0.0, 1.0, 3.0):
        ring.add(message(time_s))

    assert [one.received_s for one in ring.after(-1.0)] == [1.0, 3.0]
    assert [one.received_s for one in ring.after(1.0)] == [3.0]
    assert (ring.held_s, ring.is_cut) == (2.0, False)


def test_memory_that_cuts_the_seconds_is_told_until_the_cut_is_older_than_they_are():
    ring = Ring(2.0, 2 * SMALL)
    for time_s in (0.0, 0.5, 1.0):
        ring.add(message(time_s))
    assert (ring.held_s, ring.is_cut) == (0.5, True)

    ring.add(message(2.5))  # the one of 0.5 s made room, which would be too old a moment later
    assert ring.is_cut
    ring.add(message(4.6))
    assert not ring.is_cut


def test_message_larger_than_the_memory_is_not_held():
    ring = Ring(2.0, 1000)
    ring.add(message(0.0, 5000))

    assert (ring.after(-1.0), ring.size, ring.is_cut) == ([], 0, True)


def test_messages_of_several_topics_may_come_a_little_out_of_order():
    ring = Ring(1.0, 10**6)
    for time_s in (0.0, 1.0, 0.9, 1.8):
        ring.add(message(time_s))

    assert [one.received_s for one in ring.after(-1.0)] == [1.0, 0.9, 1.8]


def test_state_is_known_after_it_was_forgotten_unless_its_topic_has_a_newer_one():
    def state(topic: str, time_s: float) -> Kept:
        return Kept(topic, "sensor_msgs/msg/CameraInfo", int(time_s * NS), time_s, b"", is_state=True)

    ring = Ring(2.0, 10**6)
    once, before, newer = state("/once", 0.0), state("/often", 0.1), state("/often", 9.0)
    for one in (state("/once", -1.0), once, before, message(0.2), newer, message(10.0)):
        ring.add(one)

    assert ring.states_before(8.0) == [once]
    assert ring.states_before(9.0) == [once, newer]
