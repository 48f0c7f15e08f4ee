"""Which worker trains where, and that no two of a host train on one GPU."""

from types import SimpleNamespace

import pytest
import torch

from deepfm.errors import UserError
from deepfm.launch.placement import WorkerPlacement, gather_placement, require_own_gpus


def places(*hosts_and_gpus):
    return [
        WorkerPlacement(rank, host, "cuda:0 NVIDIA H100, 1 threads", gpu)
        for rank, (host, gpu) in enumerate(hosts_and_gpus)
    ]


def test_two_workers_of_a_host_on_one_gpu_are_refused():
    with pytest.raises(
        UserError,
        match="^expected a GPU for each worker, found 2 workers on one GPU of b, cuda:0 NVIDIA H100, 1 thr",
    ):
        require_own_gpus(places(("a", "GPU-1"), ("b", "GPU-2"), ("b", "GPU-2")))


def test_workers_with_gpus_of_their_own_or_on_cpus_are_welcome():
    # To each process the only GPU it sees is cuda:0.
    require_own_gpus(places(("a", "GPU-1"), ("a", "GPU-2"), ("b", "GPU-3")))
    require_own_gpus(places(("a", None), ("a", None)))


def test_ranks_that_take_one_gpu_are_told_on_every_rank(in_ranks, monkeypatch):
    found = SimpleNamespace(name="NVIDIA H100", uuid="GPU-1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    errors = in_ranks(2, lambda collectives: gather_placement(collectives, torch.device("cuda", 0)))
    assert [type(error) for error in errors] == [UserError, UserError]
    assert "found 2 workers on one GPU of " in str(errors[1])


def test_ranks_on_cpus_know_each_others_places(in_ranks):
    one, other = in_ranks(2, lambda collectives: gather_placement(collectives, torch.device("cpu")))
    assert one == other
    assert [(place.rank, place.gpu) for place in one] == [(0, None), (1, None)]
