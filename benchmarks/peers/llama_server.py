"""llama.cpp's own HTTP server, in llama.cpp's environment; serves until its input ends.

By way of the package `xllamacpp`. The only line of its output that starts with @ is the address.
"""

from __future__ import annotations

import json
import os
import sys

import xllamacpp


def main() -> None:
    """Serve the model that the options name."""
    options = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.n_parallel, params.n_ctx = options["max_num_seqs"], options["num_cached_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    params.n_threads_http = options["num_connections"]
    params.cache_ram_mib = 0  # no copies of ended sequences, which nobody asks for again
    params.ui, params.verbosity = False, 1
    server = xllamacpp.Server(params)
    print(f"@{server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
