"""Checks of the machine for the requirements of the jobs; each failed check names a remedy."""
