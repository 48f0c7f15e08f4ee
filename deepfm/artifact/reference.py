"""Reference for drift: scores and field values of a model's test rows."""

from deepfm import storage
from deepfm.settings.loader import Settings, parse_settings
from deepfm.training.result import TrainingResult

REFERENCE = "reference.json"


class Reference(Settings):
    """Counts of the test rows, which are never down-sampled; sums of weights if the rows have any."""

    scores: tuple[int | float, ...]  # (SCORE_BINS,), by logit; see metrics.binary
    names: tuple[str, ...]  # of the F fields
    fields: tuple[tuple[int | float, ...], ...]  # (F, NUM_KINDS); see metrics.field_counts
    mean_probability: float
    ctr: float


def build_reference(result: TrainingResult, names: tuple[str, ...]) -> Reference:
    """Build the reference from a finished training."""
    assert result.test is not None
    return Reference(
        scores=tuple(map(sum, zip(*result.test_scores, strict=True))),
        names=names,
        fields=tuple(map(tuple, result.test_fields)),
        mean_probability=result.test.mean_probability,
        ctr=result.test.ctr,
    )


def save_reference(folder_url: str, reference: Reference) -> None:
    """Write the reference into a model folder, before its checksums."""
    storage.write_json(f"{folder_url}/{REFERENCE}", reference.model_dump(mode="json"))


def load_reference(folder_url: str) -> Reference | None:
    """Read a model folder's reference; None if the model was registered without one."""
    url = f"{folder_url}/{REFERENCE}"
    return parse_settings(storage.read_json(url), Reference, url) if storage.exists(url) else None
