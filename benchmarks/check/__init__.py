"""`make bench-check`: a short run that fails when a ratio is worse than its bar."""
