"""Permutation importance of fields."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from deepfm.analysis import importance
from deepfm.analysis.importance import permutation_importance

SLOTS = [slice(0, 1), slice(1, 2)]


class First(nn.Module):
    """Logit that depends on the first column only, multiplied by its x if there is one."""

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


def test_an_unused_field_has_no_importance(batch):
    assert permutation_importance(First(), batch, SLOTS)[1] == importance.FieldImportance(0.0, 0.0)


def test_without_the_used_field_the_order_is_random(batch):
    first = permutation_importance(First(), batch, SLOTS, num_repeats=5)[0]
    logits = First()(batch.ids, None)
    assert first.auc_loss == pytest.approx(roc_auc_score(batch.labels, logits) - 0.5, abs=0.02)
    # Half of the shuffled values differ: -ln sigmoid(2) and -ln sigmoid(-2) in equal parts.
    random_logloss = (0.1269 + 2.1269) / 2
    logloss = log_loss(batch.labels, torch.sigmoid(logits))
    assert first.logloss_increase == pytest.approx(random_logloss - logloss, abs=0.05)


def test_x_is_shuffled_with_its_id(batch):
    batch.x = torch.stack([1.0 + batch.ids[:, 0], torch.ones(2000)], dim=1)

    class CheckedModel(First):
        def forward(self, ids, x):
            assert torch.equal(x[:, 0], 1.0 + ids[:, 0])
            return super().forward(ids, x)

    assert permutation_importance(CheckedModel(), batch, SLOTS)[0].auc_loss > 0.2


def test_the_same_seed_gives_the_same_importances_for_any_batch_size(batch, monkeypatch):
    one_batch = permutation_importance(First(), batch, SLOTS, seed=1)
    monkeypatch.setattr(importance, "_BATCH_SIZE", 300)
    batches = permutation_importance(First(), batch, SLOTS, seed=1)
    assert [field.auc_loss for field in batches] == [field.auc_loss for field in one_batch]
    assert permutation_importance(First(), batch, SLOTS, seed=2) != batches


def test_the_impressions_are_not_modified(batch):
    before = batch.ids.clone()
    permutation_importance(First(), batch, SLOTS)
    assert torch.equal(batch.ids, before)


def test_metrics_use_corrected_logits(batch):
    """The correction for down-sampling shifts the logits, which changes the logloss and not the AUC."""
    plain, shifted = (
        permutation_importance(First(), batch, SLOTS, logit_correction=c)[0] for c in (0.0, -2.0)
    )
    assert shifted.auc_loss == plain.auc_loss
    assert shifted.logloss_increase != plain.logloss_increase


def test_rows_count_by_their_weights(batch):
    # Without the flipped labels, half of the shuffled values cost -ln sigmoid(-2) instead of -ln sigmoid(2).
    batch.weights = (batch.labels == batch.ids[:, 0]).float()
    first = permutation_importance(First(), batch, SLOTS, num_repeats=5)[0]
    assert first.logloss_increase == pytest.approx(1.0, abs=0.05)
    assert first.auc_loss == pytest.approx(0.5, abs=0.02)
