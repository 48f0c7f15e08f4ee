"""Run PyTorch with one thread: threads that wait for each other slow such small models tenfold."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On a busy machine, threads that wait for each other take ten times as long over so little work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
