"""Prefetched items keep their order, and no thread or generator remains."""

import threading
import time

import pytest
import torch

from deepfm.training.prefetch import prefetch


def num_threads():
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def wait_until(holds):
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_items_keep_their_order():
    assert list(prefetch(iter(range(100)), depth=2)) == list(range(100))
    assert list(prefetch([])) == []


def test_at_most_depth_items_are_produced_in_advance():
    produced = []
    items = prefetch((produced.append(number) or number for number in range(10)), depth=2)
    assert next(items) == 0
    # One was taken, two are queued, and one more is produced before the producer waits.
    assert wait_until(lambda: produced == [0, 1, 2, 3])
    time.sleep(0.05)
    assert produced == [0, 1, 2, 3]
    items.close()


def test_an_error_is_raised_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("no second item")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no second item"):
        next(items)


def test_closing_early_closes_the_generator_and_ends_the_thread():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = prefetch(endless(), depth=1)
    next(items)
    items.close()
    assert closed.wait(10)
    assert wait_until(lambda: num_threads() == 0)


def test_the_producer_uses_one_torch_thread_and_the_consumer_keeps_its_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch(torch.get_num_threads() for _ in range(2))) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
