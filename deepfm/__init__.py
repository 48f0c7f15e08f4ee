"""Click-through-rate models: features in Spark, training on Horovod, nightly scores from an MLflow registry."""

__version__ = "0.1.0"
