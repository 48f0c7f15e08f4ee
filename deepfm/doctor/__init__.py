"""What a machine has of what the jobs need: pure checks, each a line that says what to run."""
