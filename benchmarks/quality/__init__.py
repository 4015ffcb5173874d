"""Accuracy, length and time of every mode, through any OpenAI-compatible endpoint."""
