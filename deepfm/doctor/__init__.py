"""Checks of the machine against what the jobs need; each failed check names a remedy."""
