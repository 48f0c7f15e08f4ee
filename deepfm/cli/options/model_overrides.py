"""Values of `compare.py --set` for several models, each of which takes those that it has."""

import logging
from collections.abc import Sequence

from deepfm.errors import UserError
from deepfm.model_specs import MODELS
from deepfm.settings.model import OWN_SETTINGS, ModelSettings, has_first_order
from deepfm.settings.overrides import override_settings

logger = logging.getLogger(__name__)


def override_models(models: Sequence[ModelSettings], assignments: Sequence[str]) -> tuple[ModelSettings, ...]:
    """Replace values of all models that have the setting; raise UserError if none of them has it."""
    skipped = {text: [one.model for one in models if not _has(one, text)] for text in assignments}
    for text, names in skipped.items():
        if len(names) == len(models):
            raise UserError(f"--set {text}: none of {', '.join(names)} has this setting; remove it")
        if names:
            logger.info("--set %s: not for %s, which lack this setting", text, ", ".join(names))
    return tuple(
        override_settings(one, [text for text in assignments if _has(one, text)], one.model) for one in models
    )


def _has(settings: ModelSettings, assignment: str) -> bool:
    """Whether a model has a setting; keys that no model has are errors of every model."""
    section = assignment.partition("=")[0].partition(".")[0]
    spec = MODELS[settings.model]
    if section in ("embedding_dim", "init_std", "v_reg"):
        return spec.embeddings
    if section == "w_reg":
        return has_first_order(settings.model)
    if section == "deep":
        return spec.deep
    if section in OWN_SETTINGS:
        return section in spec.own
    return section != "pretraining" or settings.model == "fnn"
