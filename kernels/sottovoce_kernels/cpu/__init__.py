"""The routing ops in numba, for CPUs."""
