"""Options that several commands have, and files of conf/ that they find."""
