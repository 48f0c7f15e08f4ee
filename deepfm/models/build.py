"""Settings -> model: the one place where a configuration becomes plain arguments."""

from collections.abc import Sequence

from torch import nn

from deepfm.config import ModelSettings
from deepfm.models.deepfm import DeepFM


def build_model(settings: ModelSettings, num_ids: Sequence[int]) -> nn.Module:
    """A model with fresh weights for fields of these numbers of ids; torch's seed decides them."""
    return DeepFM(num_ids, settings.embedding_dim, **settings.deep.model_dump())
