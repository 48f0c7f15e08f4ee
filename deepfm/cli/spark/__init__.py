"""Spark session of a job started by python or by spark-submit."""
