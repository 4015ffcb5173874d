"""`sottovoce convert`: checkpoints of latent-thinking models as directories that the server loads."""

from .command import main

__all__ = ["main"]
