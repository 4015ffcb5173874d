"""What a user may have instead: plain transformers, llama.cpp, and vLLM without the plugin."""
