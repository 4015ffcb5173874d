"""Load tests of the server with AIPerf and `vllm bench serve`; run as `python -m benchmarks.serving`."""
