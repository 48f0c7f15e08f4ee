"""Suppression of MLflow's prints and progress bars; its warnings stay."""

import logging

from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.utils.autologging_utils.logging_and_warnings import MlflowEventsAndWarningsBehaviorGlobally
from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM


def silence_mlflow() -> None:
    """Unless its logger accepts INFO: hide prints and progress bars, pass warnings to the root logger."""
    logger = logging.getLogger("mlflow")
    if logger.isEnabledFor(logging.INFO) or not MLFLOW_LOGGING_STREAM.enabled:
        return
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    # MLflow's prints and log handlers share one stream, which is on or off. The context is never left: MLflow
    # turns the stream on when the last context is left, as its own context is after logging a model.
    MlflowEventsAndWarningsBehaviorGlobally(
        disable_event_logs=True, disable_warnings=False, reroute_warnings=False
    ).__enter__()
    logger.handlers.clear()
    logger.propagate = True
