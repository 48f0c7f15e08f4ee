"""Gradients summed over ranks: the same sums for each kind of exchange, each row once, bytes counted."""

import pytest
import torch
from torch import nn

from deepfm.distributed.collectives import SingleProcess
from deepfm.models.layers import FieldEmbedding
from deepfm.training.gradient_sync import GradientSynchronizer

NUM_IDS = (3, 4)


class Net(nn.Module):
    """Two tables with the same ids, one table with one field less, and a dense weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (FieldEmbedding(NUM_IDS, dim, init_std=1.0) for dim in (1, 2))
        self.narrow = FieldEmbedding(NUM_IDS[:1], 3, init_std=1.0)
        self.dense = nn.Parameter(torch.ones(2))
        # Not with torch's global seed, which ranks that are threads share.
        generator = torch.Generator().manual_seed(0)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.table.weight, generator=generator)

    def forward(self, ids):
        vectors = [embedding(ids).flatten(1) for embedding in self.embeddings]
        return sum(vector.square().sum(dim=1) for vector in vectors) * self.dense.sum()

    @property
    def embeddings(self):
        return self.first, self.second, self.narrow


def gradients(net):
    return {key: weight.grad.to_dense().clone() for key, weight in net.named_parameters()}


def gradients_of_all_rows(ids):
    """Compute the gradients of all rows by one autograd pass."""
    net = Net()
    (net(ids).sum() / len(ids)).backward()
    return gradients(net)


def synchronize(collectives, ids, num_rows, **settings):
    """Return this rank's gradients after the exchange, the logloss, and the synchronizer."""
    net = Net()
    synchronizer = GradientSynchronizer(net, collectives, **settings)
    exchanges = synchronizer.plan_exchange(ids)
    synchronizer.start(torch.tensor([float(len(ids))], dtype=torch.float64))
    (net(ids).sum() / num_rows).backward()
    logloss = synchronizer.synchronize(exchanges, num_rows).sum_logloss
    assert all(embedding.table.weight.grad.is_coalesced() for embedding in net.embeddings)
    return gradients(net), logloss, synchronizer


IDS = torch.tensor([[0, 1], [2, 1], [2, 3], [2, 0], [1, 1], [2, 3]])


def assert_close(actual, expected, rtol=1e-6):
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, rtol=rtol, atol=1e-6)


def test_one_rank_has_the_gradients_of_autograd_with_unique_rows():
    actual, logloss, synchronizer = synchronize(SingleProcess(), IDS, len(IDS))
    assert_close(actual, gradients_of_all_rows(IDS))
    assert (logloss, synchronizer.num_steps, synchronizer.dense_bytes, synchronizer.sparse_bytes) == (
        6,
        1,
        0,
        0,
    )


@pytest.mark.parametrize(
    "cuts",
    [(3,), (5,), (6,), (2, 4), (1, 1)],
    ids=["halves", "uneven", "one empty", "three", "three, one empty"],
)
def test_ranks_together_have_the_gradients_gradients_of_all_rows(in_ranks, cuts):
    shares = torch.tensor_split(IDS, cuts)
    expected = gradients_of_all_rows(IDS)
    for actual, logloss, _ in in_ranks(
        len(shares), lambda collectives: synchronize(collectives, shares[collectives.rank], len(IDS))
    ):
        assert_close(actual, expected)
        assert logloss == 6


class RecordingCollectives:
    """Collectives that record what a rank sends."""

    def __init__(self, collectives):
        self._collectives, self.rank, self.size, self.sent = (
            collectives,
            collectives.rank,
            collectives.size,
            [],
        )

    def all_reduce_async_(self, tensors, name):
        self.sent.append(("sum", name, [tuple(tensor.shape) for tensor in tensors]))
        return self._collectives.all_reduce_async_(tensors, name)

    def all_gather_async(self, tensor, name):
        self.sent.append(("gather", name, tuple(tensor.shape), str(tensor.dtype)))
        return self._collectives.all_gather_async(tensor, name)


def sent_by_rank(in_ranks, shares, **settings):
    def work(collectives):
        recorded = RecordingCollectives(collectives)
        actual, _, synchronizer = synchronize(
            recorded, shares[collectives.rank], sum(map(len, shares)), **settings
        )
        return recorded.sent, actual, synchronizer

    return in_ranks(len(shares), work)


def test_rows_of_one_rank_are_gathered_once_for_all_tables_with_the_same_ids(in_ranks):
    shares = [torch.tensor([[0, 0], [0, 0]]), torch.tensor([[1, 1], [2, 2]])]
    (sent, actual, synchronizer), (other, _, _) = sent_by_rank(in_ranks, shares)
    ids = [("gather", "rows.2.1", (2,), "torch.int32"), ("gather", "rows.1.2", (1,), "torch.int32")]
    dense = ("sum", "dense", [(2 + 2,)])  # logloss, checkpoint flag and dense weights
    values = [
        ("gather", "values.2", (2, 3), "torch.float32"),
        ("gather", "values.1", (1, 3), "torch.float32"),
    ]
    assert sent == [*ids, dense, *values]
    assert [entry[2] for entry in other] == [(4,), (2,), [(4,)], (4, 3), (2, 3)]
    assert_close(actual, gradients_of_all_rows(torch.cat(shares)))
    assert synchronizer.sparse_bytes == 4 * 3 * (2 + 1)
    assert synchronizer.dense_bytes == 4 * (2 + 2)  # in a ring of two, each rank sends all once


def test_rows_of_most_ranks_are_summed_by_an_all_reduce_over_their_union(in_ranks):
    shares = [torch.tensor([[0, 0], [1, 1]])] * 3
    for sent, actual, synchronizer in sent_by_rank(in_ranks, shares):
        assert [entry[:3] for entry in sent[3:]] == [
            ("sum", "values.2", [(4, 3)]),
            ("sum", "values.1", [(2, 3)]),
        ]
        assert_close(actual, gradients_of_all_rows(torch.cat(shares)))
        assert synchronizer.sparse_bytes == 4 * 3 * (4 + 2) * 4 // 3


def test_rows_may_be_sent_in_16_bits_and_are_summed_in_32(in_ranks):
    shares = [torch.tensor([[0, 0], [0, 0]]), torch.tensor([[1, 1], [2, 0]])]
    (sent, actual, synchronizer), (_, same, _) = sent_by_rank(in_ranks, shares, gradient_compression="bf16")
    assert sent[3:] == [
        ("gather", "values.2", (2, 3), "torch.int16"),
        ("gather", "values.1", (1, 3), "torch.int16"),
    ]
    expected = gradients_of_all_rows(torch.cat(shares))
    assert_close(actual, expected, rtol=2**-8)
    assert any(not torch.equal(actual[key], expected[key]) for key in expected)
    assert all(torch.equal(actual[key], same[key]) for key in actual)
    assert synchronizer.sparse_bytes == 2 * 3 * (2 + 1)


def test_a_penalty_applies_to_each_row_as_often_as_all_ranks_look_it_up(in_ranks):
    def penalty_gradients(collectives, ids):
        net = Net()
        synchronizer = GradientSynchronizer(net, collectives, l2=[(net.second, 0.3)])
        exchanges = synchronizer.plan_exchange(ids)
        synchronizer.start(torch.zeros(1))
        (0 * net(ids).sum()).backward()
        synchronizer.synchronize(exchanges, len(IDS))
        return gradients(net)

    table, expected = Net().second.table.weight.detach(), torch.zeros(7, 2)
    for first_id, second_id in IDS.tolist():
        for row in (first_id, 3 + second_id):
            expected[row] += 0.3 * table[row] / len(IDS)
    shares = IDS[:2], IDS[2:]
    alone = penalty_gradients(SingleProcess(), IDS)
    results = in_ranks(2, lambda collectives: penalty_gradients(collectives, shares[collectives.rank]))
    for actual in (alone, *results):
        torch.testing.assert_close(actual["second.table.weight"], expected)
        assert not actual["first.table.weight"].any()
        assert not actual["dense"].any()


def test_dense_gradients_are_sent_as_soon_as_all_of_them_are_computed(in_ranks):
    def record_order(collectives):
        recorded = RecordingCollectives(collectives)
        net = Net()
        synchronizer = GradientSynchronizer(net, recorded)
        exchanges = synchronizer.plan_exchange(IDS)
        net.narrow.table.weight.register_post_accumulate_grad_hook(
            lambda weight: recorded.sent.append("table gradients computed")
        )
        synchronizer.start(torch.ones(1))
        net(IDS).sum().backward()
        synchronizer.synchronize(exchanges, 2 * len(IDS))
        return [entry if isinstance(entry, str) else entry[1] for entry in recorded.sent]

    for order in in_ranks(2, record_order):
        assert order.index("dense") < order.index("table gradients computed")


def test_the_ids_of_the_next_batch_are_sent_while_a_batch_is_used(in_ranks):
    class Share:
        def __init__(self, ids):
            self.ids = ids

    def record_order(collectives):
        recorded, order = RecordingCollectives(collectives), []
        for batch, exchanges in GradientSynchronizer(Net(), recorded).with_exchanges(
            [Share(IDS[:2]), Share(IDS[2:4]), Share(IDS)]
        ):
            order.append((len(batch.ids), exchanges[2].rows.tolist(), len(recorded.sent) // 2))
        return order

    rows = [sorted({*ids[:, 0].tolist(), *(3 + ids[:, 1]).tolist()}) for ids in (IDS[:2], IDS[2:4], IDS)]
    for order in in_ranks(2, record_order):
        assert order == [(2, rows[0], 2), (2, rows[1], 3), (6, rows[2], 3)]
