"""What a comparison trains: every model with the same embedding size, deep part and budget."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from deepfm.dataset.manifest import Manifest
from deepfm.errors import UserError
from deepfm.settings.loader import load_settings, parse_settings
from deepfm.settings.model import INIT_STD, ModelSettings, has_first_order

_OF_THE_OPTIMIZER = (
    "optimizer", "learning_rate", "ftrl", "table_learning_rate", "table_l2", "schedule", "warmup_steps",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What is compared: the same rows, workers and seeds for every model."""

    dataset_url: str
    manifest: Manifest
    models: tuple[ModelSettings, ...]
    num_seeds: int
    num_workers: int

    @property
    def key(self) -> str:
        """Equal for comparisons whose results can stand in one table."""
        models = [settings.model_dump(mode="json") for settings in self.models]
        content = [self.manifest.digest, models, self.num_seeds, self.num_workers]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def load_models(names: Sequence[str], folder: str, like: ModelSettings | None) -> tuple[ModelSettings, ...]:
    """The settings FOLDER/NAME.yaml of each model, made alike `like` if it is given.

    UserError for a kind of model named twice, or where embedding dimension, hidden units or budget differ.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"--models: expected each model once, found {', '.join(repeated)} again")
    models = [load_settings(f"{folder}/{name}.yaml", ModelSettings) for name in names]
    kinds = [settings.model for settings in models]
    if twice := [name for name, kind in zip(names, kinds, strict=True) if kinds.count(kind) > 1]:
        # A table has a row a kind; settings of one kind are compared by a search.
        raise UserError(
            f"--models: expected each kind of model once, found {' and '.join(twice)}; leave all but one "
            "out, or compare their settings by jobs/tune.py"
        )
    if like is not None:
        models = [alike(settings, like) for settings in models]
    _require_same_budget(names, models)
    return tuple(models)


def alike(settings: ModelSettings, like: ModelSettings) -> ModelSettings:
    """The model under another's settings; its own stay the form of its products and FTRL with its rate.

    UserError where the other has not what the model needs.
    """
    for part in ("embedding_dim", "deep"):
        if getattr(settings, part) and not getattr(like, part):
            raise UserError(
                f"--like: expected the YAML of a model with {part}, which {settings.model} needs, found "
                f"{like.model} without; give one that has it, such as deepfm's, or leave {settings.model} out"
            )
    training = like.training
    if settings.training.optimizer == "ftrl":
        own = {name: getattr(settings.training, name) for name in _OF_THE_OPTIMIZER}
        training = training.model_copy(update=own)
    shared = {
        "embedding_dim": settings.embedding_dim and like.embedding_dim,
        "init_std": like.init_std if settings.embedding_dim else INIT_STD,
        "deep": settings.deep and like.deep,
        "w_reg": like.w_reg if has_first_order(settings.model) else 0.0,
        "v_reg": like.v_reg if settings.embedding_dim else 0.0,
        "training": training,
        "pretraining": None,
    }
    made = settings.model_copy(update=shared)
    return parse_settings(made.model_dump(), ModelSettings, f"--like {like.model}, for {settings.model}")


def _require_same_budget(names: Sequence[str], models: Sequence[ModelSettings]) -> None:
    found: dict[str, dict] = {}
    for name, settings in zip(names, models, strict=True):
        shared = {"embedding_dim": settings.embedding_dim}
        shared["deep.hidden_units"] = settings.deep and settings.deep.hidden_units
        shared |= {
            f"training.{key}": getattr(settings.training, key)
            for key in ("batch_size", "max_epochs", "patience", "keep", "monitor", "precision")
        }
        for key, value in shared.items():
            if value is not None:
                found.setdefault(key, {})[name] = value
    differing = {key: values for key, values in found.items() if len(set(values.values())) > 1}
    if differing:
        raise UserError(
            f"--models: expected one embedding size and budget for all, found {differing}; "
            "change the YAMLs, or give --like one of them"
        )
