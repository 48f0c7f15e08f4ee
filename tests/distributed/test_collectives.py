"""Collectives of a single process, and of two real Horovod processes on Spark."""

import sys

import cloudpickle
import horovod.spark
import pytest
import torch

from deepfm.distributed.collectives import HorovodCollectives, SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.training.evaluation import average_buffers
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizers.optimizer import Optimizer

# Pickle the functions of this file by value, because the workers cannot import it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_collectives_of_a_single_process_change_nothing():
    collectives, tensor = SingleProcess(), torch.tensor([1.0, 2.0])
    collectives.all_reduce_([tensor], "a")
    collectives.broadcast_([tensor], "b")
    assert tensor.tolist() == [1, 2]
    collectives.all_reduce_async_([tensor], "c")()
    assert collectives.all_gather_async(tensor, "d")() is tensor
    assert tensor.tolist() == [1, 2]


# Two Horovod processes, started once for all following tests.


class Share:
    """Rows of one rank of a global batch of 8; the label is 1 if the sum of two ids is odd."""

    x, num_rows_all_ranks = None, 8

    def __init__(self, step, rows):
        ids = torch.randint(0, 4, (8, 2), generator=torch.Generator().manual_seed(step))
        self.ids, self.labels = ids[rows], (ids.sum(dim=1) % 2).float()[rows]


def train(collectives, shares, **deep):
    torch.manual_seed(0)
    net = DeepFM([4, 4], 2, hidden_units=(3,), **deep)
    torch.manual_seed(collectives.rank)  # dropout differs by rank
    optimizer, settings = Optimizer(net, 0.01), LoopConfig(1, 1, w_reg=0.1, v_reg=0.1)
    loop = TrainingLoop(net, optimizer, collectives, settings)
    losses = [loop.step(share) for share in shares]
    average_buffers(net, collectives)
    return losses, net.state_dict()


def run_on_rank():
    collectives = HorovodCollectives()
    rank = collectives.rank
    tensors = [
        torch.tensor([1.5 + rank]),
        torch.tensor([2.0**53, 1.0], dtype=torch.float64) * rank,
        torch.tensor([[2**53 + 1], [rank]]),
    ]
    collectives.all_reduce_(tensors, "sum")
    # Started in one order and waited for in another, as in a training with prefetched exchanges.
    wait_for_gather = collectives.all_gather_async(torch.full((rank + 1, 2), rank), "gathered")
    summed = torch.full((2,), 1.0 + rank)
    wait_for_sum = collectives.all_reduce_async_([summed], "async sum")
    empty_on_rank_0 = collectives.all_gather_async(torch.full((rank, 2), 1.0), "empty on rank 0")()
    wait_for_sum()
    gathered = wait_for_gather()
    from_rank_0 = [torch.tensor(7 + rank), torch.tensor([0.5 + rank]), torch.tensor([[rank, 1]])]
    collectives.broadcast_(from_rank_0, "from rank 0")
    rows = slice(None, 5) if rank == 0 else slice(5, None)
    shares = [Share(step, rows) for step in range(4)]
    return {
        "rank and size": (collectives.rank, collectives.size),
        "gpu": collectives.gpu,
        "built for GPUs": bool(collectives._hvd.nccl_built()),
        "sum": [tensor.tolist() for tensor in tensors],
        "gathered": gathered.tolist(),
        "async sum": summed.tolist(),
        "empty on rank 0": empty_on_rank_0.tolist(),
        "from rank 0": [tensor.tolist() for tensor in from_rank_0],
        "plain": train(collectives, shares),
        "batch norm and dropout": train(collectives, shares, batch_norm=True, dropout=0.5),
    }


@pytest.fixture(scope="module")
def ranks(spark):
    return horovod.spark.run(run_on_rank, num_proc=2, start_timeout=120, use_gloo=True, verbose=0)


def test_horovod_ranks_are_numbered(ranks):
    assert [results["rank and size"] for results in ranks] == [(0, 2), (1, 2)]


def test_ranks_of_a_host_use_different_gpus_if_horovod_was_built_for_gpus(ranks):
    with_gpus = ranks[0]["built for GPUs"]
    assert [results["gpu"] for results in ranks] == ([0, 1] if with_gpus else [None, None])


def test_horovod_sums_tensors_of_different_types_exactly(ranks):
    for results in ranks:
        assert results["sum"] == [[4.0], [2.0**53, 1.0], [[2**54 + 2], [1]]]


def test_horovod_gathers_different_numbers_of_rows(ranks):
    for results in ranks:
        assert results["gathered"] == [[0, 0], [1, 1], [1, 1]]
        assert results["empty on rank 0"] == [[1.0, 1.0]]
        assert results["async sum"] == [3.0, 3.0]


def test_horovod_broadcasts_tensors_of_rank_0_also_single_integers(ranks):
    for results in ranks:
        assert results["from rank 0"] == [7, [0.5], [[0, 1]]]


@pytest.mark.parametrize("kind", ["plain", "batch norm and dropout"])
def test_two_horovod_ranks_get_identical_weights(ranks, kind):
    (losses, weights), (other_losses, other_weights) = ranks[0][kind], ranks[1][kind]
    assert losses == other_losses
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_two_horovod_ranks_get_the_weights_of_one_rank_with_the_same_global_batches(ranks):
    losses, weights = train(SingleProcess(), [Share(step, slice(None)) for step in range(4)])
    horovod_losses, horovod_weights = ranks[0]["plain"]
    assert horovod_losses == pytest.approx(losses, rel=1e-5)
    for name in weights:
        torch.testing.assert_close(horovod_weights[name], weights[name], rtol=0, atol=1e-6)
