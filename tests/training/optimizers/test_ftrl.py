"""FTRL-Proximal equals algorithm 1 of McMahan et al. 2013, coordinate by coordinate."""

import math
from collections import defaultdict

import pytest
import torch
from torch import nn

from deepfm.models.lr import LogisticRegression
from deepfm.training.optimizers.ftrl import Ftrl
from deepfm.training.optimizers.optimizer import Optimizer

ALPHA = 0.3


class Algorithm1:
    """The algorithm of the paper for one coordinate; the weight is computed when it is needed."""

    def __init__(self, alpha, beta, l1, l2):
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        self.z = self.n = 0.0

    @property
    def w(self):
        if abs(self.z) <= self.l1:
            return 0.0
        sign = math.copysign(1.0, self.z)
        return -(self.z - sign * self.l1) / ((self.beta + math.sqrt(self.n)) / self.alpha + self.l2)

    def update(self, g):
        sigma = (math.sqrt(self.n + g * g) - math.sqrt(self.n)) / self.alpha
        self.z += g - sigma * self.w
        self.n += g * g


def lr_by_algorithm_1(batches, num_weights, **settings):
    """Train an LR on batches of (rows of an impression, label); the last weight is the bias."""
    coordinates = [Algorithm1(ALPHA, **settings) for _ in range(num_weights + 1)]
    for batch in batches:
        gradients = defaultdict(float)
        for rows, label in batch:
            logit = sum(coordinates[row].w for row in (*rows, num_weights))
            probability = 1 / (1 + math.exp(-logit))
            for row in (*rows, num_weights):
                gradients[row] += (probability - label) / len(batch)
        for row, gradient in gradients.items():
            coordinates[row].update(gradient)
    return [coordinate.w for coordinate in coordinates]


#: Impressions of two fields with 3 and 2 ids, as rows of the table. Rows occur several times within a batch
#: and later, are absent for a step, and row 2 occurs once.
BATCHES = [
    [((0, 3), 1), ((0, 4), 0), ((0, 3), 1)],
    [((1, 4), 0)],
    [((2, 3), 1), ((1, 3), 0)],
    [((0, 4), 1), ((1, 4), 1), ((0, 3), 0), ((1, 3), 0)],
    [((0, 4), 0), ((1, 3), 1)],
]


def trained_lr(batches, **ftrl):
    model = LogisticRegression([3, 2]).double()
    optimizer = Optimizer(model, ALPHA, kind="ftrl", ftrl=ftrl)
    for batch in batches:
        optimizer.zero_grad()
        ids = torch.tensor([rows for rows, _ in batch]) - torch.tensor([0, 3])
        labels = torch.tensor([float(label) for _, label in batch], dtype=torch.float64)
        nn.functional.binary_cross_entropy_with_logits(model(ids), labels).backward()
        optimizer.step()
    return [*model.linear.weights.table.weight.flatten().tolist(), model.linear.bias.item()]


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 1.0, "l1": 0.0, "l2": 0.0},
        {"beta": 0.0, "l1": 0.0, "l2": 0.0},
        {"beta": 0.5, "l1": 0.1, "l2": 0.0},
        {"beta": 1.0, "l1": 0.0, "l2": 2.0},
        {"beta": 0.7, "l1": 0.05, "l2": 1.5},
    ],
    ids=["beta", "nothing", "l1", "l2", "all"],
)
def test_lr_trained_with_ftrl_has_the_weights_of_algorithm_1(settings):
    expected = lr_by_algorithm_1(BATCHES, 5, **settings)
    assert any(expected)
    assert trained_lr(BATCHES, **settings) == pytest.approx(expected, rel=1e-12)


def test_the_first_step_equals_the_one_computed_by_hand():
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    weight.grad = torch.tensor([-4.0], dtype=torch.float64)
    Ftrl([weight], lr=0.5, beta=1.0, l1=1.0, l2=2.0).step()
    # z = -4, n = 16: w = (4 - 1) / ((1 + 4) / 0.5 + 2)
    assert weight.item() == 3 / 12


def test_l1_sets_small_weights_to_exactly_zero():
    weights = trained_lr(BATCHES, l1=0.2)
    assert 0 < weights.count(0.0) < len(weights)
    assert trained_lr(BATCHES, l1=0.0).count(0.0) == 0
    assert set(trained_lr(BATCHES, l1=100.0)) == {0.0}


def table(rows=4):
    embedding = nn.Embedding(rows, 2, sparse=True, dtype=torch.float64)
    nn.init.zeros_(embedding.weight)
    return embedding


def step_on(embedding, ftrl, ids, factor=1.0):
    embedding.weight.grad = None
    (factor * embedding(torch.tensor(ids)).sum()).backward()
    ftrl.step()


def test_rows_outside_the_batch_keep_weights_and_state():
    embedding = table()
    ftrl = Ftrl([embedding.weight], lr=0.1)
    step_on(embedding, ftrl, [0, 2])
    before = {
        key: value.clone() for key, value in [("w", embedding.weight), *ftrl.state[embedding.weight].items()]
    }
    step_on(embedding, ftrl, [1, 2, 2], factor=-3.0)
    after = {"w": embedding.weight, **ftrl.state[embedding.weight]}
    assert set(after) == {"w", "z", "n"}
    for key, value in after.items():
        changed = (value != before[key]).any(dim=1).tolist()
        assert changed == [False, True, True, False], key


def test_a_row_that_occurs_twice_in_a_batch_gets_one_update_with_the_sum():
    twice, once = table(), table()
    step_on(twice, Ftrl([twice.weight], lr=0.1), [1, 1])
    step_on(once, Ftrl([once.weight], lr=0.1), [1], factor=2.0)
    assert torch.equal(twice.weight, once.weight)


def test_sparse_and_dense_gradients_give_the_same_weights():
    sparse, dense = table(), table()
    sparse_ftrl, dense_ftrl = (Ftrl([e.weight], lr=0.1, beta=0.0, l1=0.3, l2=0.5) for e in (sparse, dense))
    for step, ids in enumerate([[0, 2], [1, 1, 2], [0], [2, 1]], start=1):
        step_on(sparse, sparse_ftrl, ids, factor=(-1.5) ** step)
        dense.weight.grad = sparse.weight.grad.to_dense()
        dense_ftrl.step()
        torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-15)
    assert sparse.weight.any(dim=1).tolist() == [True, True, True, False]


def test_a_weight_without_a_gradient_does_not_change():
    weight = nn.Parameter(torch.tensor([0.5]))
    Ftrl([weight], lr=0.1).step()
    assert weight.item() == 0.5


def test_tables_and_dense_weights_are_trained():
    weights = trained_lr(BATCHES[:1])
    assert [weight != 0 for weight in weights] == [True, False, False, True, True, True]


def restore(w, state, **settings):
    """Restore weights and state of another training, and fit the state to the weights."""
    weight = nn.Parameter(torch.tensor(w, dtype=torch.float64))
    ftrl = Ftrl([weight], **settings)
    ftrl.state[weight] = {name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()}
    ftrl.fit_to_weights()
    return weight, ftrl


@pytest.mark.parametrize(
    "state", [{}, {"z": [0.0, 0.0], "n": [0.0, 0.0]}, {"z": [9.0, -1.0], "n": [4.0, 0.5]}]
)
@pytest.mark.parametrize(
    "settings",
    [{"lr": 0.1}, {"lr": 2.0, "beta": 0.5, "l2": 3.0}, {"lr": 0.3, "l1": 0.2}, {"lr": 1, "l1": 50.0}],
)
def test_restored_weights_do_not_change_in_a_step_with_a_zero_gradient(state, settings):
    weight, ftrl = restore([0.75, -2.0], state, **settings)
    weight.grad = torch.zeros(2, dtype=torch.float64)
    ftrl.step()
    assert weight.tolist() == pytest.approx([0.75, -2.0], rel=1e-12)


def test_the_fitted_state_equals_the_one_computed_by_hand():
    weight, ftrl = restore([3.0, -3.0], {"n": [16.0, 0.0]}, lr=0.5, beta=1.0, l1=1.0, l2=2.0)
    # (1 + 4) / 0.5 + 2 = 12 and (1 + 0) / 0.5 + 2 = 4, times 3, plus l1 = 1 away from zero.
    assert ftrl.state[weight]["z"].tolist() == [-37.0, 13.0]


def test_with_equal_settings_the_state_does_not_change():
    settings = {"lr": 0.3, "beta": 0.7, "l1": 0.2, "l2": 1.5}
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(1000))
    ftrl = Ftrl([weight], **settings)
    for _ in range(5):
        weight.grad = 0.2 * torch.randn(1000, generator=generator)
        ftrl.step()
    assert 0 < weight.count_nonzero() < 1000  # some are zero because of l1; their |z| is at most l1
    before = ftrl.state[weight]["z"].clone()
    ftrl.fit_to_weights()
    assert torch.equal(ftrl.state[weight]["z"], before)


def test_a_zero_weight_stays_near_zero_if_l1_is_lowered():
    """A weight that l1 kept at zero must not jump in a step with a tiny gradient."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    strong = Ftrl([weight], lr=0.5, l1=1.0)
    weight.grad = torch.tensor([0.9, -0.9], dtype=torch.float64)
    strong.step()
    assert weight.tolist() == [0.0, 0.0]
    weak = Ftrl([weight], lr=0.5, l1=0.25)
    weak.state[weight] = strong.state[weight]
    weak.fit_to_weights()
    assert weak.state[weight]["z"].tolist() == [0.25, -0.25]
    weight.grad = torch.tensor([1e-6, -1e-6], dtype=torch.float64)
    weak.step()
    assert weight.abs().max() < 1e-6
