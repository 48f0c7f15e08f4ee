"""A trained model as a folder: weights, settings, vocabulary, checksums, and its MLflow flavor."""
