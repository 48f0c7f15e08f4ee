"""MLflow's own messages: what it prints goes where a job tells the story, what it warns of stays."""

import logging

from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.utils.autologging_utils.logging_and_warnings import MlflowEventsAndWarningsBehaviorGlobally
from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM


def silence_mlflow() -> None:
    """Where its logger does not take INFO: no prints, no progress bars; warnings through the root logger."""
    logger = logging.getLogger("mlflow")
    if logger.isEnabledFor(logging.INFO) or not MLFLOW_LOGGING_STREAM.enabled:
        return
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    # Its prints and its handlers share one stream, which is on or off. Entered for good: MLflow switches
    # the stream on again when the last who entered leaves, as it does itself while it logs a model.
    MlflowEventsAndWarningsBehaviorGlobally(
        disable_event_logs=True, disable_warnings=False, reroute_warnings=False
    ).__enter__()
    logger.handlers.clear()
    logger.propagate = True
