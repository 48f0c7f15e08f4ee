"""Metrics of the last run of a job as a file for the textfile collector of Prometheus' node_exporter."""

import math
import time
from datetime import datetime, timezone
from urllib.parse import quote

from deepfm import storage
from deepfm.monitoring.alerts import JobOutcome

_HELP = {
    "deepfm_job_success": "Whether the last run of the job succeeded.",
    "deepfm_job_exit_status": "Exit status of the last run of the job.",
    "deepfm_job_last_run_timestamp_seconds": "When the last run of the job ended.",
    "deepfm_job_duration_seconds": "Duration of the last run of the job.",
    "deepfm_day_timestamp_seconds": "Start of the last day that the job scored, in UTC.",
    "deepfm_day_rows": "Impressions of the last scored day.",
    "deepfm_day_rows_bad": "Rejected rows of the last scored day.",
    "deepfm_day_mean_probability": "Mean probability of the last scored day.",
    "deepfm_day_psi": "Population stability index of the scores of the last scored day.",
    "deepfm_day_warnings": "Drift limits that the last scored day exceeds.",
    "deepfm_day_live_auc": "AUC of the last evaluated day on its labels.",
    "deepfm_day_live_logloss": "Logloss of the last evaluated day on its labels.",
    "deepfm_day_live_calibration": "Mean probability / CTR of the last evaluated day.",
    "deepfm_model_test_auc": "AUC of the last trained version on its test rows.",
    "deepfm_model_test_logloss": "Logloss of the last trained version on its test rows.",
    "deepfm_candidate_promoted": "Whether the last compared candidate became champion.",
    "deepfm_candidate_version": "Version of the last compared candidate.",
}


def write_metrics(folder_url: str, outcome: JobOutcome) -> None:
    """Write FOLDER/deepfm_JOB_NAME.prom atomically; each job and name has a file of its own."""
    storage.make_folder(folder_url)
    name = quote(outcome.name, safe="")
    storage.write_bytes(f"{folder_url}/deepfm_{outcome.job}_{name}.prom", format_metrics(outcome).encode())


def format_metrics(outcome: JobOutcome) -> str:
    """Format the metrics of an outcome in Prometheus' text format; unknown ones are left out."""
    values = _job_values(outcome) | _day_values(outcome) | _model_values(outcome)
    labels = f'job="{_escape(outcome.job)}",name="{_escape(outcome.name)}"'
    lines = []
    for metric, value in values.items():
        if value is not None:
            lines.append(f"# HELP {metric} {_HELP[metric]}\n# TYPE {metric} gauge\n")
            lines.append(f"{metric}{{{labels}}} {_format_value(float(value))}\n")
    return "".join(lines)


def _job_values(outcome: JobOutcome) -> dict[str, float | None]:
    return {
        "deepfm_job_success": not outcome.exit_status,
        "deepfm_job_exit_status": outcome.exit_status,
        "deepfm_job_last_run_timestamp_seconds": time.time(),
        "deepfm_job_duration_seconds": outcome.seconds,
    }


def _day_values(outcome: JobOutcome) -> dict[str, float | None]:
    if outcome.job != "score" or not outcome.days:
        return {}
    day = outcome.days[-1]
    start = datetime.fromisoformat(day["date"]).replace(tzinfo=timezone.utc)
    return {
        "deepfm_day_timestamp_seconds": start.timestamp(),
        "deepfm_day_rows": day["rows_scored"],
        "deepfm_day_rows_bad": day["rows_bad"],
        "deepfm_day_mean_probability": day["mean_probability"],
        "deepfm_day_psi": day.get("psi"),
        "deepfm_day_warnings": len(day["warnings"]),
    }


def _model_values(outcome: JobOutcome) -> dict[str, float | None]:
    summary = outcome.summary
    if outcome.job == "evaluate":
        metrics = outcome.days[-1] if outcome.days else {}
        return {f"deepfm_day_live_{key}": metrics.get(key) for key in ("auc", "logloss", "calibration")}
    if outcome.job == "train":
        return {f"deepfm_model_{key}": summary.get(key) for key in ("test_auc", "test_logloss")}
    if outcome.is_comparison:
        return {
            "deepfm_candidate_promoted": summary["promoted"],
            "deepfm_candidate_version": float(summary["version"]),
        }
    return {}


def _format_value(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.17g}"


def _escape(text: str) -> str:
    """Escape the value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
