"""Run PyTorch with one thread: with more, such small models take ten times as long on a busy machine."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(previous)
