"""Command lines: flags, a Spark session, and calls into the package."""
