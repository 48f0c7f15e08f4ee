"""Settings -> model: the one place where a configuration becomes plain arguments."""

from collections.abc import Sequence

from torch import nn

from deepfm.model_specs import MODELS
from deepfm.models.layers import FieldEmbedding
from deepfm.settings.model import ModelSettings


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
    num_fields = len(num_ids) - num_crossed
    kind = MODELS[settings.model]
    model = kind.load_class()(num_ids[:num_fields], **_arguments(settings, num_ids[num_fields:]))
    if num_slots is not None and max(num_slots) > 1:
        for part in model.modules():
            if isinstance(part, FieldEmbedding):
                part.set_slots(num_slots[: part.num_fields])
    return model


def _arguments(settings: ModelSettings, num_crossed_ids: Sequence[int]) -> dict:
    """What the model takes beside its fields."""
    kind = MODELS[settings.model]
    arguments = {**kind.fixed, **{name: getattr(settings, name) for name in kind.own}}
    if kind.embeddings:
        arguments |= {"embedding_dim": settings.embedding_dim, "init_std": settings.init_std}
    if kind.deep:
        arguments |= settings.deep.model_dump()
    if kind.crosses:
        arguments["num_crossed_ids"] = num_crossed_ids
    return arguments
