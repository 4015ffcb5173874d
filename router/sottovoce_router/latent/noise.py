"""Normal noise as a function of a request's seed and its latent step, on any device.

Counter-based: a batch draws in one pass, and a step that is computed again draws the same.
"""

from __future__ import annotations

import hashlib

import torch

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as int64, which wraps
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def seed_of(req_id: str) -> int:
    """The seed, an int64, of a request that sets none: its id, which holds random characters."""
    digest = hashlib.sha256(req_id.encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """A logical shift to the right."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def normal(seeds: torch.Tensor, steps: torch.Tensor, width: int) -> torch.Tensor:
    """Standard normal values by the Box-Muller transform.

    Args:
        seeds: int64 [n].
        steps: int64 [n].

    Returns:
        float32 [n, width], a function of each row's seed and step alone.
    """
    keys = _mixed(_mixed(seeds + _GOLDEN) ^ steps)[:, None]
    counters = torch.arange(1, width + 1, device=seeds.device)
    bits = _mixed(keys + counters * _GOLDEN)
    first, second = _shifted(bits, 32), bits & (2**32 - 1)
    radius = (-2.0 * ((first.double() + 0.5) * 2.0**-32).log()).sqrt()
    return (radius * (second.double() * (2.0**-31 * torch.pi)).cos()).float()
