"""Owns: the assembly line of a running node: order, overlap, newest first. No clock decides a test."""

from __future__ import annotations

import threading

from cnn_perception.line import Line
from cnn_perception.mailbox import Mailbox

TIMEOUT_S = 10


def test_every_frame_goes_through_all_steps_in_order():
    mailbox: Mailbox[int] = Mailbox()
    delivered: list[int] = []
    arrived = threading.Semaphore(0)

    def deliver(value: int) -> None:
        delivered.append(value)
        arrived.release()

    line = Line(mailbox, lambda v: v * 10, lambda v: v + 1, deliver)
    for value in range(50):
        mailbox.put(value)
        assert arrived.acquire(timeout=TIMEOUT_S)
    mailbox.close()
    line.join()
    assert delivered == [v * 10 + 1 for v in range(50)]


def test_next_frame_is_prepared_and_the_last_delivered_during_an_inference():
    """Three frames in three steps at once: the barrier of three breaks unless all steps overlap."""
    mailbox: Mailbox[int] = Mailbox()
    inferring, prepared_second, delivered = threading.Event(), threading.Event(), threading.Event()

    def prepare(value: int) -> int:
        if value == 2:
            prepared_second.set()
        return value

    def infer(value: int) -> int:
        if value == 1:
            inferring.set()
            assert prepared_second.wait(TIMEOUT_S), "the second frame was not prepared during the first's inference"
        return value

    line = Line(mailbox, prepare, infer, lambda value: delivered.set() if value == 2 else None)
    mailbox.put(1)
    assert inferring.wait(TIMEOUT_S)
    mailbox.put(2)
    assert delivered.wait(TIMEOUT_S)
    mailbox.close()
    line.join()


def test_one_frame_at_a_time_is_inferred_and_slow_delivery_keeps_the_order():
    mailbox: Mailbox[int] = Mailbox()
    under_way, most = [0], [0]
    delivered: list[int] = []
    second_inferred, both = threading.Event(), threading.Event()

    def infer(value: int) -> int:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        under_way[0] -= 1
        if value == 2:
            second_inferred.set()
        return value

    def deliver(value: int) -> None:
        if value == 1:
            mailbox.put(2)
            assert second_inferred.wait(TIMEOUT_S), "a slow delivery held up the next inference"
        delivered.append(value)
        if len(delivered) == 2:
            both.set()

    line = Line(mailbox, lambda v: v, infer, deliver)
    mailbox.put(1)
    assert both.wait(TIMEOUT_S)
    mailbox.close()
    line.join()
    assert delivered == [1, 2]
    assert most == [1]


def test_dropped_frames_do_not_stop_the_line():
    mailbox: Mailbox[int] = Mailbox()
    seen, arrived = threading.Semaphore(0), threading.Event()

    def prepare(value: int) -> int | None:
        seen.release()
        return None if value == 1 else value

    def infer(value: int) -> int | None:
        return None if value == 2 else value

    line = Line(mailbox, prepare, infer, lambda value: arrived.set())
    for value in (1, 2, 3):
        mailbox.put(value)
        assert seen.acquire(timeout=TIMEOUT_S)
    assert arrived.wait(TIMEOUT_S)
    mailbox.close()
    line.join()


def test_closing_the_mailbox_ends_an_idle_line():
    mailbox: Mailbox[int] = Mailbox()
    line = Line(mailbox, lambda v: v, lambda v: v, lambda v: None)
    mailbox.close()
    line.join()
