"""Says what the routing kernels take on NVIDIA GPUs: compiled Triton needs a process of its own."""

from __future__ import annotations

import json
import sys

from benchmarks.kernels.compiled import compile_kernels

from scripts import say

if __name__ == "__main__":
    for row in compile_kernels(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")):
        say(row)
