"""Owns: the one-slot mailbox between the receiving and the answering thread."""

from __future__ import annotations

import threading

from cnn_perception.mailbox import Mailbox


def test_newest_item_wins():
    mailbox: Mailbox[int] = Mailbox()
    assert [mailbox.put(1), mailbox.put(2), mailbox.put(3)] == [False, True, True]
    assert mailbox.take() == 3


def test_item_taken_is_not_overtaken():
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.take()
    assert mailbox.put(2) is False


def test_take_waits_for_an_item():
    mailbox: Mailbox[int] = Mailbox()
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.append(mailbox.take()))
    thread.start()
    mailbox.put(7)
    thread.join(timeout=5)
    assert found == [7]


def test_close_ends_a_waiting_and_every_later_take():
    mailbox: Mailbox[int] = Mailbox()
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.append(mailbox.take()))
    thread.start()
    mailbox.close()
    thread.join(timeout=5)
    mailbox.put(1)
    assert found == [None]
    assert mailbox.take() is None
    assert mailbox.closed
