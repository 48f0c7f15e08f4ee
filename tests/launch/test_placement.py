"""Placement of workers; two workers of a host must not share a GPU."""

from types import SimpleNamespace

import pytest
import torch

from deepfm.errors import UserError
from deepfm.launch.placement import WorkerPlacement, gather_placement, require_separate_gpus


def placements(*hosts_and_gpus):
    return [
        WorkerPlacement(rank, host, "cuda:0 NVIDIA H100, 1 threads", gpu)
        for rank, (host, gpu) in enumerate(hosts_and_gpus)
    ]


def test_two_workers_of_a_host_on_one_gpu_are_refused():
    with pytest.raises(
        UserError,
        match="^expected one GPU per worker, found 2 workers on one GPU of b, cuda:0 NVIDIA H100, 1 thr",
    ):
        require_separate_gpus(placements(("a", "GPU-1"), ("b", "GPU-2"), ("b", "GPU-2")))


def test_workers_with_separate_gpus_or_on_cpus_are_accepted():
    # Each process sees only its own GPU, as cuda:0.
    require_separate_gpus(placements(("a", "GPU-1"), ("a", "GPU-2"), ("b", "GPU-3")))
    require_separate_gpus(placements(("a", None), ("a", None)))


def test_a_shared_gpu_is_an_error_on_every_rank(in_ranks, monkeypatch):
    properties = SimpleNamespace(name="NVIDIA H100", uuid="GPU-1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    errors = in_ranks(2, lambda collectives: gather_placement(collectives, torch.device("cuda", 0)))
    assert [type(error) for error in errors] == [UserError, UserError]
    assert "found 2 workers on one GPU of " in str(errors[1])


def test_every_rank_knows_the_placement_of_all(in_ranks):
    one, other = in_ranks(2, lambda collectives: gather_placement(collectives, torch.device("cpu")))
    assert one == other
    assert [(placement.rank, placement.gpu) for placement in one] == [(0, None), (1, None)]
