"""Click-through-rate models: features in Spark, training on Horovod, nights scored from MLflow's registry."""

__version__ = "0.1.0"
