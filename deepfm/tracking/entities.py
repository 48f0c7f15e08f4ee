"""MLflow classes for type annotations of other packages, so that only tracking and artifact import mlflow."""

from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

__all__ = ["MlflowException", "MlflowRun", "ModelVersion", "RegisteredModel"]
