"""What a night is compared with: the model's scores and fields on its test rows."""

from deepfm import storage
from deepfm.settings.loader import Settings, parse_settings
from deepfm.training.result import TrainingResult

REFERENCE = "reference.json"


class Reference(Settings):
    """Counts of the test rows, which no down-sampling has thinned."""

    scores: tuple[int, ...]  # (SCORE_BINS,), by logit; see training.metrics
    names: tuple[str, ...]  # of the F fields
    fields: tuple[tuple[int, ...], ...]  # (F, NUM_KINDS); see training.field_tally
    mean_probability: float
    ctr: float


def reference_of(result: TrainingResult, names: tuple[str, ...]) -> Reference:
    """Of a finished training."""
    return Reference(
        scores=tuple(map(sum, zip(*result.test_scores, strict=True))),
        names=names,
        fields=result.test_fields,
        mean_probability=result.test.mean_probability,
        ctr=result.test.ctr,
    )


def save_reference(folder_url: str, reference: Reference) -> None:
    """Into a model's folder, before it is sealed."""
    storage.write_json(f"{folder_url}/{REFERENCE}", reference.model_dump(mode="json"))


def load_reference(folder_url: str) -> Reference | None:
    """None where the model was registered without one."""
    where = f"{folder_url}/{REFERENCE}"
    return parse_settings(storage.read_json(where), Reference, where) if storage.exists(where) else None
