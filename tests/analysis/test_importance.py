"""What a model loses without a field."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from deepfm.analysis import importance
from deepfm.analysis.importance import permutation_importance

SLOTS = [slice(0, 1), slice(1, 2)]


class First(nn.Module):
    """A logit of the first column alone, times its x where there is one."""

    def forward(self, ids, x):
        logit = 4.0 * ids[:, 0] - 2.0
        return logit if x is None else logit * x[:, 0]


@pytest.fixture
def batch():
    """2,000 impressions whose label is mostly the first of two columns of 0 and 1."""
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 2, (2000, 2), generator=random)
    flipped = torch.rand(2000, generator=random) < 0.1
    return SimpleNamespace(ids=ids, x=None, labels=(ids[:, 0] ^ flipped).float())


def test_a_field_that_the_model_does_not_look_at_costs_nothing(batch):
    assert permutation_importance(First(), batch, SLOTS)[1] == importance.FieldImportance(0.0, 0.0)


def test_without_the_field_that_it_looks_at_it_orders_by_chance(batch):
    first = permutation_importance(First(), batch, SLOTS, num_repeats=5)[0]
    logits = First()(batch.ids, None)
    assert first.auc_loss == pytest.approx(roc_auc_score(batch.labels, logits) - 0.5, abs=0.02)
    # Half of the exchanged values are the other one: -ln sigmoid(2) and -ln sigmoid(-2) in equal parts.
    by_chance = (0.1269 + 2.1269) / 2
    with_it = log_loss(batch.labels, torch.sigmoid(logits))
    assert first.logloss_increase == pytest.approx(by_chance - with_it, abs=0.05)


def test_x_goes_with_its_id(batch):
    batch.x = torch.stack([1.0 + batch.ids[:, 0], torch.ones(2000)], dim=1)

    class Checks(First):
        def forward(self, ids, x):
            assert torch.equal(x[:, 0], 1.0 + ids[:, 0])
            return super().forward(ids, x)

    assert permutation_importance(Checks(), batch, SLOTS)[0].auc_loss > 0.2


def test_the_same_seed_gives_the_same_figures_in_whatever_chunks(batch, monkeypatch):
    once = permutation_importance(First(), batch, SLOTS, seed=1)
    monkeypatch.setattr(importance, "_ROWS_AT_ONCE", 300)
    again = permutation_importance(First(), batch, SLOTS, seed=1)
    assert [field.auc_loss for field in again] == [field.auc_loss for field in once]
    assert permutation_importance(First(), batch, SLOTS, seed=2) != again


def test_the_impressions_are_left_as_they_were(batch):
    before = batch.ids.clone()
    permutation_importance(First(), batch, SLOTS)
    assert torch.equal(batch.ids, before)


def test_figures_are_of_corrected_logits(batch):
    """Of rows that were left out of training: the AUC knows no shift, the logloss does."""
    plain, shifted = (
        permutation_importance(First(), batch, SLOTS, logit_correction=c)[0] for c in (0.0, -2.0)
    )
    assert shifted.auc_loss == plain.auc_loss
    assert shifted.logloss_increase != plain.logloss_increase
