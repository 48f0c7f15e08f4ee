"""What a trained model loses without a field: its metrics with the field's values exchanged among rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from deepfm.distributed.collectives import SingleProcess
from deepfm.metrics.binary import Metrics
from deepfm.training.batch import Batch
from deepfm.training.evaluation import evaluate

#: Impressions that go through the network at a time.
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class FieldImportance:
    """Of one field: the means over some exchanges."""

    auc_loss: float  # AUC as it is less AUC without the field
    logloss_increase: float  # nats per impression


@dataclass(frozen=True)
class _Rows:
    """Impressions in memory."""

    ids: Tensor
    x: Tensor | None
    labels: Tensor
    num_rows_all_ranks: int

    def chunks(self) -> Iterator["_Rows"]:
        for rows in torch.arange(len(self.ids)).split(_ROWS_AT_ONCE):
            x = None if self.x is None else self.x[rows]
            yield _Rows(self.ids[rows], x, self.labels[rows], len(rows))


def permutation_importance(
    model: nn.Module,
    batch: Batch,
    slots: Sequence[slice],
    *,
    num_repeats: int = 1,
    seed: int = 0,
    logit_correction: float = 0.0,
) -> list[FieldImportance]:
    """By field, of impressions that the model was not trained on; `slots`: the columns of each field.

    A field's values are exchanged at random among the impressions, `num_repeats` times: it keeps its
    distribution, and says nothing of the click any more (L. Breiman, "Random Forests", 2001, sec. 10). Of
    two fields that say the same each seems to matter little: the other is still there.
    """
    random = torch.Generator().manual_seed(seed)
    whole = _measured(model, _Rows(batch.ids, batch.x, batch.labels, len(batch.ids)), logit_correction)
    found = []
    for field in slots:
        without = [
            _measured(model, _exchanged(batch, field, random), logit_correction) for _ in range(num_repeats)
        ]
        auc, logloss = (fmean(getattr(metrics, key) for metrics in without) for key in ("auc", "logloss"))
        found.append(FieldImportance(whole.auc - auc, logloss - whole.logloss))
    return found


def _measured(model: nn.Module, rows: _Rows, logit_correction: float) -> Metrics:
    return evaluate(model, SingleProcess(), rows.chunks(), logit_correction)


def _exchanged(batch: Batch, field: slice, random: torch.Generator) -> _Rows:
    order = torch.randperm(len(batch.ids), generator=random)
    ids, x = batch.ids.clone(), None if batch.x is None else batch.x.clone()
    ids[:, field] = ids[order, field]
    if x is not None:
        x[:, field] = x[order, field]
    return _Rows(ids, x, batch.labels, len(ids))
