"""The Spark session of a job, started by Python or by spark-submit."""
