"""The door to the other ranks: on threads, and on two real Horovod processes that Spark started."""

import sys

import cloudpickle
import horovod.spark
import pytest
import torch

from deepfm.distributed.collectives import HorovodCollectives, SingleProcess
from deepfm.models.deepfm import DeepFM
from deepfm.training.evaluation import average_buffers
from deepfm.training.loop import LoopConfig, TrainingLoop
from deepfm.training.optimizer import Optimizer

# Functions of this file travel to the workers, which cannot import it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_one_process_by_itself_changes_nothing():
    collectives, tensor = SingleProcess(), torch.tensor([1.0, 2.0])
    collectives.all_reduce_([tensor], "a")
    collectives.broadcast_([tensor], "b")
    assert tensor.tolist() == [1, 2]
    collectives.all_reduce_async_([tensor], "c")()
    assert collectives.all_gather_async(tensor, "d")() is tensor
    assert tensor.tolist() == [1, 2]


# Two Horovod processes, started once for all the tests below.


class Share:
    """Rows of one rank of a global batch of 8; the label is 1 if the sum of two ids is odd."""

    x, num_rows_all_ranks = None, 8

    def __init__(self, step, rows):
        ids = torch.randint(0, 4, (8, 2), generator=torch.Generator().manual_seed(step))
        self.ids, self.labels = ids[rows], (ids.sum(dim=1) % 2).float()[rows]


def trained(collectives, shares, **deep):
    torch.manual_seed(0)
    net = DeepFM([4, 4], 2, hidden_units=(3,), **deep)
    torch.manual_seed(collectives.rank)  # dropout differs by rank
    optimizer, settings = Optimizer(net, 0.01), LoopConfig(1, 1, w_reg=0.1, v_reg=0.1)
    loop = TrainingLoop(net, optimizer, collectives, settings)
    losses = [loop.step(share) for share in shares]
    average_buffers(net, collectives)
    return losses, net.state_dict()


def on_each_rank():
    collectives = HorovodCollectives()
    rank = collectives.rank
    tensors = [
        torch.tensor([1.5 + rank]),
        torch.tensor([2.0**53, 1.0], dtype=torch.float64) * rank,
        torch.tensor([[2**53 + 1], [rank]]),
    ]
    collectives.all_reduce_(tensors, "sum")
    # Begun one after the other, waited for in another order: as steps and what is ahead of them.
    gathering = collectives.all_gather_async(torch.full((rank + 1, 2), rank), "gathered")
    summed = torch.full((2,), 1.0 + rank)
    summing = collectives.all_reduce_async_([summed], "begun")
    nothing_of_zero = collectives.all_gather_async(torch.full((rank, 2), 1.0), "nothing of rank 0")()
    summing()
    gathered = gathering()
    from_zero = [torch.tensor(7 + rank), torch.tensor([0.5 + rank]), torch.tensor([[rank, 1]])]
    collectives.broadcast_(from_zero, "from zero")
    rows = slice(None, 5) if rank == 0 else slice(5, None)
    shares = [Share(step, rows) for step in range(4)]
    return {
        "world": (collectives.rank, collectives.size),
        "gpu": collectives.gpu,
        "built for GPUs": bool(collectives._hvd.nccl_built()),
        "sum": [tensor.tolist() for tensor in tensors],
        "gathered": gathered.tolist(),
        "begun": summed.tolist(),
        "nothing of rank 0": nothing_of_zero.tolist(),
        "from zero": [tensor.tolist() for tensor in from_zero],
        "plain": trained(collectives, shares),
        "batch norm and dropout": trained(collectives, shares, batch_norm=True, dropout=0.5),
    }


@pytest.fixture(scope="module")
def ranks(spark):
    return horovod.spark.run(on_each_rank, num_proc=2, start_timeout=120, use_gloo=True, verbose=0)


def test_horovod_ranks_are_numbered(ranks):
    assert [found["world"] for found in ranks] == [(0, 2), (1, 2)]


def test_ranks_of_a_host_take_its_gpus_in_turn_where_horovod_was_built_for_them(ranks):
    with_gpus = ranks[0]["built for GPUs"]
    assert [found["gpu"] for found in ranks] == ([0, 1] if with_gpus else [None, None])


def test_horovod_sums_tensors_of_different_types_in_one_exchange_and_exactly(ranks):
    for found in ranks:
        assert found["sum"] == [[4.0], [2.0**53, 1.0], [[2**54 + 2], [1]]]


def test_horovod_gathers_as_many_rows_as_each_rank_has(ranks):
    for found in ranks:
        assert found["gathered"] == [[0, 0], [1, 1], [1, 1]]
        assert found["nothing of rank 0"] == [[1.0, 1.0]]
        assert found["begun"] == [3.0, 3.0]


def test_horovod_broadcasts_rank_zeros_tensors_also_single_integers(ranks):
    for found in ranks:
        assert found["from zero"] == [7, [0.5], [[0, 1]]]


@pytest.mark.parametrize("kind", ["plain", "batch norm and dropout"])
def test_two_horovod_ranks_step_to_identical_weights(ranks, kind):
    (losses, weights), (other_losses, other_weights) = ranks[0][kind], ranks[1][kind]
    assert losses == other_losses
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_two_horovod_ranks_end_where_one_rank_ends_with_the_same_global_batches(ranks):
    losses, weights = trained(SingleProcess(), [Share(step, slice(None)) for step in range(4)])
    found_losses, found_weights = ranks[0]["plain"]
    assert found_losses == pytest.approx(losses, rel=1e-5)
    for name in weights:
        torch.testing.assert_close(found_weights[name], weights[name], rtol=0, atol=1e-6)
