"""Plan of a comparison: models with the same embedding size, deep part and budget."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.settings.loader import load_settings, parse_settings
from deepfm.settings.model import INIT_STD, ModelSettings, has_first_order

_OPTIMIZER_SETTINGS = (
    "optimizer", "learning_rate", "ftrl", "table_learning_rate", "table_l2", "schedule", "warmup_steps",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Models to compare on the same rows, with the same number of workers and seeds."""

    dataset_url: str
    manifest: Manifest
    models: tuple[ModelSettings, ...]
    num_seeds: int
    num_workers: int

    @property
    def key(self) -> str:
        """Digest that is equal for comparisons whose results belong into one table."""
        models = [settings.model_dump(mode="json") for settings in self.models]
        content = [self.manifest.digest, models, self.num_seeds, self.num_workers]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def load_models(names: Sequence[str], folder: str, like: ModelSettings | None) -> tuple[ModelSettings, ...]:
    """Load FOLDER/NAME.yaml of each model, with the shared settings of `like` if it is given.

    All are trained as in their papers, see `as_in_paper`.

    Raises UserError if a model is named twice, or if embedding dimension, hidden units or budget differ.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"--models: expected each model once, found {', '.join(repeated)} twice")
    models = [as_in_paper(load_settings(f"{folder}/{name}.yaml", ModelSettings)) for name in names]
    kinds = [settings.model for settings in models]
    if twice := [name for name, kind in zip(names, kinds, strict=True) if kinds.count(kind) > 1]:
        # The table has one row per kind of model; settings of one kind are compared by tune.py.
        raise UserError(
            f"--models: expected each kind of model once, found {' and '.join(twice)}; keep one of "
            "them, or compare their settings with tune.py"
        )
    if like is not None:
        models = [with_shared_settings(settings, as_in_paper(like)) for settings in models]
    _require_same_budget(names, models)
    return tuple(models)


def as_in_paper(settings: ModelSettings) -> ModelSettings:
    """Train all parts of the model jointly and all values alike, as in the papers that are compared."""
    training = settings.training.model_copy(update={"recipe": "joint", "rare_id_damping": 0.0})
    pretraining = settings.pretraining if settings.model == "fnn" else None
    return settings.model_copy(update={"training": training, "pretraining": pretraining})


def with_shared_settings(settings: ModelSettings, like: ModelSettings) -> ModelSettings:
    """Replace the settings that all models share by those of `like`; FTRL keeps its optimizer settings.

    Raises UserError if `like` lacks a setting that the model needs.
    """
    for name in ("embedding_dim", "deep"):
        if getattr(settings, name) and not getattr(like, name):
            raise UserError(
                f"--like: expected the YAML of a model with {name}, which {settings.model} needs, found "
                f"{like.model}; use that of another model, such as deepfm, or remove {settings.model}"
            )
    training = like.training
    if settings.training.optimizer == "ftrl":
        optimizer = {name: getattr(settings.training, name) for name in _OPTIMIZER_SETTINGS}
        training = training.model_copy(update=optimizer)
    shared = {
        "embedding_dim": settings.embedding_dim and like.embedding_dim,
        "init_std": like.init_std if settings.embedding_dim else INIT_STD,
        "deep": settings.deep and like.deep,
        "w_reg": like.w_reg if has_first_order(settings.model) else 0.0,
        "v_reg": like.v_reg if settings.embedding_dim else 0.0,
        "training": training,
        "pretraining": None,
    }
    combined = settings.model_copy(update=shared)
    return parse_settings(combined.model_dump(), ModelSettings, f"--like {like.model}, for {settings.model}")


def _require_same_budget(names: Sequence[str], models: Sequence[ModelSettings]) -> None:
    values_by_key: dict[str, dict] = {}
    for name, settings in zip(names, models, strict=True):
        shared: dict[str, Any] = {"embedding_dim": settings.embedding_dim}
        shared["deep.hidden_units"] = settings.deep and settings.deep.hidden_units
        shared |= {
            f"training.{key}": getattr(settings.training, key)
            for key in ("batch_size", "max_epochs", "patience", "keep", "monitor", "precision")
        }
        for key, value in shared.items():
            if value is not None:
                values_by_key.setdefault(key, {})[name] = value
    differing = {key: values for key, values in values_by_key.items() if len(set(values.values())) > 1}
    if differing:
        raise UserError(
            f"--models: expected one embedding size and budget for all, found {differing}; "
            "change the YAMLs, or use --like with one of them"
        )
