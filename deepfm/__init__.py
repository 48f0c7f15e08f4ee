"""Click-through-rate models: features with Spark, training with Horovod, daily scoring with MLflow models."""

__version__ = "0.1.0"
