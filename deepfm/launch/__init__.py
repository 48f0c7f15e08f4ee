"""Training jobs on Spark: worker processes, their progress and their failures."""
