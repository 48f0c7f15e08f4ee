"""Optimizers whose updates of tables touch only the rows of a batch."""
