"""What a published night says of itself to MLflow."""

from deepfm import storage
from deepfm.scoring.daily_runs import log_scoring_day
from deepfm.scoring.days import DRIFT, REPORT, PublishedDay
from deepfm.tracking.store import MlflowStore


def log_published_day(store: MlflowStore, published_url: str, day: str, described: PublishedDay) -> None:
    """Log a night's figures, its drift and its report."""
    tags = {
        "version": described.version,
        "model_digest": described.model_digest,
        "input_digest": described.input_digest,
        "flagged": str(bool(described.warnings)).lower(),
    }
    figures = {
        "rows_scored": float(described.rows_scored),
        "rows_bad": float(described.rows_bad),
        "mean_probability": described.mean_probability,
        "num_warnings": float(len(described.warnings)),
    }
    page = None
    if storage.exists(f"{published_url}/{DRIFT}"):
        drift = storage.read_json(f"{published_url}/{DRIFT}")
        figures |= {"psi": drift["psi"], "ks": drift["ks"]}
        figures |= {f"psi.{field['name']}": field["psi"] for field in drift["fields"]}
        page = storage.read_bytes(f"{published_url}/{REPORT}").decode()
    log_scoring_day(store, described.name, day, tags=tags, figures=figures, page=page)
