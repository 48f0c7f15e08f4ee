"""Description of an unknown log: a sample of its rows, and a data YAML to review."""
