"""Click logs: files, byte ranges, and raw rows parsed into typed columns."""
