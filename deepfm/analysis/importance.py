"""Permutation importance: the loss of a trained model's metrics when a field's values are shuffled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import SingleProcess
from deepfm.metrics.binary import Metrics
from deepfm.metrics.calibration import Calibration
from deepfm.training.batch import Batch, batch_weights
from deepfm.training.evaluation import evaluate_rows

#: Impressions per forward pass.
_BATCH_SIZE = 8192


@dataclass(frozen=True)
class FieldImportance:
    """Importance of one field: means over the repeats."""

    auc_loss: float  # AUC with the field minus AUC with the field shuffled
    logloss_increase: float  # nats per impression


@dataclass(frozen=True)
class _Rows:
    """Impressions in memory."""

    ids: Tensor
    x: Tensor | None
    labels: Tensor
    num_rows_all_ranks: int
    weights: Tensor | None = None

    def chunks(self) -> Iterator["_Rows"]:
        for rows in torch.arange(len(self.ids)).split(_BATCH_SIZE):
            x = None if self.x is None else self.x[rows]
            weights = None if self.weights is None else self.weights[rows]
            yield _Rows(self.ids[rows], x, self.labels[rows], len(rows), weights)


def permutation_importance(
    model: nn.Module,
    batch: Batch,
    slots: Sequence[slice],
    *,
    num_repeats: int = 1,
    seed: int = 0,
    logit_correction: float = 0.0,
    calibration: Calibration | None = None,
) -> list[FieldImportance]:
    """Return the importance of each field on impressions that the model was not trained on.

    `slots`: the columns of each field. A field's values are shuffled among the impressions, `num_repeats`
    times: the field keeps its distribution and becomes independent of the label (L. Breiman, "Random
    Forests", 2001, sec. 10). Two redundant fields both get a low importance, as the other one remains.
    """
    random = torch.Generator().manual_seed(seed)
    rows = _Rows(batch.ids, batch.x, batch.labels, len(batch.ids), batch_weights(batch))

    def metrics_of(rows: _Rows) -> Metrics:
        chunks = rows.chunks()
        return evaluate_rows(
            model, SingleProcess(), chunks, logit_correction, calibration=calibration
        ).compute()

    baseline = metrics_of(rows)
    importances = []
    for field in slots:
        shuffled = [metrics_of(_shuffle_field(batch, field, random)) for _ in range(num_repeats)]
        auc, logloss = (fmean(getattr(metrics, key) for metrics in shuffled) for key in ("auc", "logloss"))
        importances.append(FieldImportance(baseline.auc - auc, logloss - baseline.logloss))
    return importances


def _shuffle_field(batch: Batch, field: slice, random: torch.Generator) -> _Rows:
    order = torch.randperm(len(batch.ids), generator=random)
    ids, x = batch.ids.clone(), None if batch.x is None else batch.x.clone()
    ids[:, field] = ids[order, field]
    if x is not None:
        x[:, field] = x[order, field]
    return _Rows(ids, x, batch.labels, len(ids), batch_weights(batch))
