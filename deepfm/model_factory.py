"""Construction of a model from its settings, as plain arguments."""

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
    """Build a model for fields with `num_ids` ids; torch's seed determines the initial weights.

    The last `num_crossed` of `num_ids` are crossed fields, which only the wide part of Wide & Deep uses.
    `num_slots`: number of id columns of each field, above one for lists; None: one each.
    """
    num_fields = len(num_ids) - num_crossed
    spec = MODELS[settings.model]
    model = spec.load_class()(num_ids[:num_fields], **_arguments(settings, num_ids[num_fields:]))
    if num_slots is not None and max(num_slots) > 1:
        for module in model.modules():
            if isinstance(module, FieldEmbedding):
                module.set_slots(num_slots[: module.num_fields])
    return model


def _arguments(settings: ModelSettings, num_crossed_ids: Sequence[int]) -> dict:
    """Return the constructor arguments other than `num_ids`."""
    spec = MODELS[settings.model]
    arguments = {**spec.fixed, **{name: getattr(settings, name) for name in spec.own}}
    if spec.embeddings:
        arguments |= {"embedding_dim": settings.embedding_dim, "init_std": settings.init_std}
    if spec.deep:
        assert settings.deep is not None
        arguments |= settings.deep.model_dump()
    if spec.crosses:
        arguments["num_crossed_ids"] = num_crossed_ids
    return arguments
