"""The tiny reasoner: a small Llama trained from scratch on solved problems."""
