"""Items made ahead of their use come as they were made, and nothing stays behind."""

import threading
import time

import pytest
import torch

from deepfm.training.prefetch import prefetch


def num_threads():
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def wait_until(holds):
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_items_come_in_their_order():
    assert list(prefetch(iter(range(100)), depth=2)) == list(range(100))
    assert list(prefetch([])) == []


def test_items_are_made_before_they_are_asked_for_but_no_more_than_depth_of_them():
    made = []
    items = prefetch((made.append(number) or number for number in range(10)), depth=2)
    assert next(items) == 0
    # One was taken, two wait, and one more is made before its maker waits.
    assert wait_until(lambda: made == [0, 1, 2, 3])
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    items.close()


def test_an_error_comes_in_its_place():
    def broken():
        yield 1
        raise ValueError("no second item")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no second item"):
        next(items)


def test_who_leaves_early_closes_what_makes_the_items_and_no_thread_stays():
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


def test_what_makes_the_items_takes_one_core_and_leaves_the_others_to_who_uses_them():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch(torch.get_num_threads() for _ in range(2))) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
