"""The noise of vLLM's Gumbel-max sampling and of the policies: a loop draws what the engine draws."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def gumbel_noise(seed: int, position: int, vocab_size: int) -> Floats:
    """The noise of every token id at a position, as vllm/v1/worker/gpu/sample/gumbel.py defines it."""

    def rotate(x: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
        return (x << np.uint32(by)) | (x >> np.uint32(32 - by))

    def mixed(h: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
        key = rotate(key * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        return rotate(h ^ key, 13) * np.uint32(5) + np.uint32(0xE6546B64)

    h = np.zeros(1, np.uint32)
    for word in (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, position & 0xFFFFFFFF):
        h = mixed(h, np.array([word], np.uint32))
    h = mixed(h, np.arange(vocab_size, dtype=np.uint32)) ^ np.uint32(16)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    u = (h.astype(np.float64) + 0.5) * 2.0**-32
    return (-np.log(-np.log1p(-u))).astype(np.float32)


def _finalised(h: int) -> int:
    """murmur3's last steps, on 32 bits."""
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) % 2**32
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) % 2**32
    return h ^ (h >> 16)


def _random_bits(seed: int, position: int, word: int) -> int:
    folded = (seed % 2**32) ^ ((seed >> 32) % 2**32)
    return _finalised(_finalised(folded ^ position) ^ word)


def coin(seed: int, position: int) -> float:
    """What `random` holds to its soft share, for the token that is recorded at a position."""
    return (_random_bits(seed, position, 0x9E3779B9) >> 8) / 2**24


def mixture_noise(seed: int, position: int, token: int) -> float:
    """The Gumbel noise of a mixture's component, for the token that is recorded at a position."""
    h = _random_bits(seed, position, token)
    return -math.log(-math.log(((h >> 9) + 0.5) / 2**23))
