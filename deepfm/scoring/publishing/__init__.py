"""Published days: rows are written to a new folder and checked, then made visible."""
