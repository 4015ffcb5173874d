"""The place of the training recipes."""
