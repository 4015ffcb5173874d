"""The routing kernels against their roof, a pure read of the logits; `python -m benchmarks.kernels`."""
