"""Experiments of an MLflow store, created when they are first used."""

import mlflow
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from deepfm.errors import UserError

#: The experiment that MLflow creates with a store.
DEFAULT_EXPERIMENT_ID = "0"
#: Makes MLflow's page show runs, curves and models instead of its chatbot views.
_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def experiment_id(client: mlflow.MlflowClient, name: str, artifact_location: str | None) -> str:
    """Return the id of an experiment, which is created if it does not exist.

    Several jobs may create it at once. Raise UserError if it was deleted.
    """
    if existing := find_experiment(client, name):
        return existing.experiment_id
    try:
        return client.create_experiment(name, artifact_location=artifact_location, tags=_TAGS)
    except MlflowException:
        if existing := find_experiment(client, name):  # another job has created it since
            return existing.experiment_id
        raise


def find_experiment(client: mlflow.MlflowClient, name: str) -> Experiment | None:
    """Return the experiment, None if it does not exist; raise UserError if it was deleted."""
    existing = client.get_experiment_by_name(name)
    if existing and existing.lifecycle_stage != LifecycleStage.ACTIVE:
        raise UserError(
            f"experiment {name} was deleted; restore it with `mlflow experiments restore --experiment-id "
            f"{existing.experiment_id}`, or use another experiment"
        )
    return existing
