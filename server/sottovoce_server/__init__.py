"""The HTTP server: vLLM's own app behind one middleware, and the `sottovoce` command."""
