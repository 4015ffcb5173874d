"""The place of a typed client for the server; nothing here imports torch or vllm."""
