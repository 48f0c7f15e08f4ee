"""Settings -> model: the one place where a configuration becomes plain arguments."""

from collections.abc import Sequence

from torch import nn

from deepfm.model_settings import ModelSettings
from deepfm.models.deepfm import DeepFM
from deepfm.models.dnn import DNN
from deepfm.models.fm import FM
from deepfm.models.fm_dnn import FMDNN
from deepfm.models.fnn import FNN
from deepfm.models.layers import FieldEmbedding
from deepfm.models.lr import LR
from deepfm.models.pnn import PNN
from deepfm.models.wide_deep import WideDeep


def build_model(
    settings: ModelSettings,
    num_ids: Sequence[int],
    num_crossed: int = 0,
    num_slots: Sequence[int] | None = None,
) -> nn.Module:
    """A model with fresh weights for fields of these numbers of ids; torch's seed decides them.

    The last `num_crossed` of `num_ids` are crossed fields: only Wide&Deep's wide part takes them. `num_slots`
    is how many columns of ids each field has, more than one of lists; None: one each.
    """
    model = _model_of_kind(settings, num_ids, num_crossed)
    if num_slots is not None and max(num_slots) > 1:
        for part in model.modules():
            if isinstance(part, FieldEmbedding):
                part.give_slots(num_slots[: part.num_fields])
    return model


def _model_of_kind(settings: ModelSettings, num_ids: Sequence[int], num_crossed: int) -> nn.Module:
    num_fields = len(num_ids) - num_crossed
    fields, crossed, k = num_ids[:num_fields], num_ids[num_fields:], settings.embedding_dim
    deep = settings.deep.model_dump() if settings.deep else {}
    deep["init_std"] = settings.init_std
    match settings.model:
        case "lr":
            return LR(fields)
        case "fm":
            return FM(fields, k, init_std=settings.init_std)
        case "fnn":
            return FNN(fields, k, **deep)
        case "ipnn":
            return PNN(fields, k, inner=True, outer=None, **deep)
        case "opnn":
            return PNN(fields, k, inner=False, outer=settings.outer, **deep)
        case "pnn":
            return PNN(fields, k, inner=True, outer=settings.outer, **deep)
        case "wide_deep":
            return WideDeep(fields, k, num_crossed_ids=crossed, **deep)
        case "fm_dnn":
            return FMDNN(fields, k, **deep)
        case "dnn":
            return DNN(fields, k, **deep)
        case "deepfm":
            return DeepFM(fields, k, **deep)
    raise AssertionError(f"settings name a model that is not here: {settings.model}")
