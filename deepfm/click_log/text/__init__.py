"""Text files of a click log: their lines, rows and columns."""
