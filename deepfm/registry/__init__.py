"""The trained model as a folder, its versions in MLflow, and which of them is champion."""
