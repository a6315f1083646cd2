"""Owns: how many processes load batches, and what ends a run that waits for them. Leaves to others: the batches."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import OddImages

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training.batches import workers
from training.batches.loader import Order, data_loader
from training.data.records import Sample
from training.loop.interrupt import Interrupt, Interrupted

SPEC = InputSpec(8, 8, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
MIB = 2**20


@pytest.mark.parametrize(
    ("free", "wanted", "expected"),
    [
        (64 * MIB, 2, 0),  # a batch has 19.3 MB: one process has two ahead, and the run two more, which are 77 MB
        (80 * MIB, 2, 1),
        (64 * MIB, 0, 0),
        (2**33, 8, 8),
        (None, 8, 8),
    ],
)
def test_no_more_processes_load_than_the_shared_memory_holds_and_it_is_said(
    monkeypatch, capsys, free, wanted, expected
):
    monkeypatch.setattr(workers, "_free_bytes", lambda: free)

    assert workers.affordable(wanted, (32, 3, 224, 224)) == expected

    told = capsys.readouterr().out
    assert told.count("\n") == (expected < wanted)
    assert ("/dev/shm" in told and f"{expected} instead of {wanted}" in told) == (expected < wanted)


def loader(deed: str):
    images = OddImages(tuple(Sample(Path(f"{row}.png"), 0, "train") for row in range(4)), SPEC, deed=deed)
    return data_loader(images, Order(4, 2, None), workers=1, pin_memory=False)


def test_a_process_that_dies_ends_the_run_with_one_line():
    with pytest.raises(ConfigError, match=r"process that loads images died.*--workers") as caught:
        next(iter(loader("die")))

    assert "\n" not in str(caught.value)


def test_processes_that_stall_end_the_run_after_the_limit_or_at_the_first_ctrl_c(monkeypatch):
    monkeypatch.setattr(workers, "STALL_S", workers.POLL_S)
    with pytest.raises(ConfigError, match=r"no batch for 5 s.*--workers 0"):
        next(iter(loader("stall")))

    monkeypatch.setattr(workers, "STALL_S", 1e9)
    stalled = loader("stall")
    interrupt = Interrupt()
    interrupt.requested = True
    stalled.when_late = interrupt.check
    with pytest.raises(Interrupted):
        next(iter(stalled))


def test_what_a_process_raises_is_a_defect_and_keeps_its_traceback():
    with pytest.raises(RuntimeError, match=r"Caught RuntimeError in DataLoader worker(.|\n)*a defect"):
        next(iter(loader("raise")))
