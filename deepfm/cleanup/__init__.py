"""Files that no run, model or published day needs any more."""
