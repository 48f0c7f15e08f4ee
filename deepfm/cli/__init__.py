"""Command lines of the jobs: flags, a Spark session, and calls into the package."""
