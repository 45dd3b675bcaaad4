"""One demo a file: train, estimate every checkpoint, chart, report."""
