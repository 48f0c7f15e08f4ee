"""Prints of MLflow are hidden unless its logger accepts INFO; its warnings are not."""

import logging

import pytest
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.utils.autologging_utils.logging_and_warnings import MlflowEventsAndWarningsBehaviorGlobally
from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM, eprint

from deepfm.tracking.logging import silence_mlflow


@pytest.fixture
def mlflow_logger(monkeypatch):
    """MLflow's logger with its default setup, restored after the test."""
    logger = logging.getLogger("mlflow")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(MLFLOW_LOGGING_STREAM)])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(MLFLOW_LOGGING_STREAM, "_enabled", True)
    monkeypatch.setattr(MlflowEventsAndWarningsBehaviorGlobally, "_disable_event_logs_count", 0)
    level = logger.level
    for variable in (MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT):
        monkeypatch.delenv(variable.name, raising=False)
    yield logger
    logger.setLevel(level)


def test_prints_are_hidden_and_warnings_are_logged(mlflow_logger, capsys, caplog):
    mlflow_logger.setLevel(logging.WARNING)
    silence_mlflow()
    eprint("Created version '1'")
    mlflow_logger.warning("the server is old")
    assert "Created" not in capsys.readouterr().err
    assert "the server is old" in caplog.text
    assert not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get()


def test_a_verbose_job_shows_everything(mlflow_logger, capsys):
    mlflow_logger.setLevel(logging.INFO)
    silence_mlflow()
    eprint("Created version '1'")
    assert "Created version '1'" in capsys.readouterr().err
    assert MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get()


def test_registering_a_model_prints_nothing(mlflow_logger, save_model, register, capfd):
    """MLflow silences itself while it logs a model, and afterwards turns its output on again."""
    mlflow_logger.setLevel(logging.WARNING)
    silence_mlflow()
    folder = save_model("model")
    capfd.readouterr()
    assert register(folder, "registered-quietly") == "1"
    assert capfd.readouterr() == ("", "")
