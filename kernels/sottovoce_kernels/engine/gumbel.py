"""Gumbel-max sampling that picks the same token as vLLM's Triton kernel does for a seed.

The noise of a token is a hash of (seed, position, token id), so it can be had for any token alone.
Most tokens are discarded by an upper bound of their noise that needs no logarithm (see `_ceiling`).
"""

import math
from functools import cache

import numpy as np
import torch

from sottovoce_kernels.engine.arrays import Array, Float32, Grid, flat, readable_rows, row_at
from sottovoce_kernels.engine.jit import bits_of_float, njit
from sottovoce_kernels.engine.rows import CHUNK, fill_chunk_maxima, index_of, num_chunks

_ONES = np.uint32(0xFFFFFFFF)
_FP64_DOMAIN = np.uint32(0x9E3779B9)
_DRAFT_SALT = 1 << 30
# No hash gives more noise than this: -log of the smallest uniform, 2**-33 or (fp64) 2**-53.
_HIGHEST_NOISE = np.float32(22.875)
_HIGHEST_NOISE_FP64 = np.float32(36.75)
_SLACK = 1e-3
_CEILING = np.float32(158.0 * math.log(2.0) + _SLACK)
_CEILING_SLOPE = np.float32(-math.log(2.0) / 2.0**23)

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_HIGH_SCALE = np.float32(2.0**-16)
_LOW_SCALE = np.float32(2.0**-32)
_QUARTER = np.float32(0.25)
_SMALLEST = np.float32(2.0**-24)
_SERIES = tuple(np.float32(1.0 / n) for n in range(8, 0, -1))


@njit()
def _scramble(key: np.uint32) -> np.uint32:
    """Do the part of mixing in a key that does not depend on the hash so far."""
    key = np.uint32(key * np.uint32(0xCC9E2D51))
    key = np.uint32((key << np.uint32(15)) | (key >> np.uint32(17)))
    return np.uint32(key * np.uint32(0x1B873593))


@njit()
def _mix(h: np.uint32, scrambled: np.uint32) -> np.uint32:
    h = np.uint32(h ^ scrambled)
    h = np.uint32((h << np.uint32(13)) | (h >> np.uint32(19)))
    return np.uint32(h * np.uint32(5) + np.uint32(0xE6546B64))


@njit()
def _scramble_all(keys: Array) -> None:
    for token in range(keys.size):
        keys[token] = _scramble(np.uint32(token))


@cache
def _token_keys(vocab_size: int) -> Array:
    """Scramble every token id once: half of a hash's work is the same in all rows."""
    keys = np.empty(vocab_size, dtype=np.uint32)
    _scramble_all(keys)
    return keys


@njit()
def _prefix(seed: int, pos: int, domain: np.uint32) -> np.uint32:
    """Hash the part of the key that a row shares."""
    h = _mix(domain, _scramble(np.uint32(seed & 0xFFFFFFFF)))
    h = _mix(h, _scramble(np.uint32((seed >> 32) & 0xFFFFFFFF)))
    return _mix(h, _scramble(np.uint32(pos & 0xFFFFFFFF)))


@njit()
def _hash(prefix: np.uint32, token_key: np.uint32) -> np.uint32:
    """Finish MurmurHash3 (x86, 32 bit, a 16-byte key) with the scrambled token id."""
    h = np.uint32(_mix(prefix, token_key) ^ np.uint32(16))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit()
def _ceiling(h: np.uint32) -> Float32:
    """Bound the noise of hash `h` from above.

    With u = (h + 1/2) / 2**32 the noise is -log(-log(1 - u)) <= -log(u) <= -log(f / 2**31) for
    f = h // 2. A float's bits, read as an integer, are 2**23 * (127 + a lower bound of its log2),
    exact at powers of two. The slack covers rounding: 6e-8 in f, 2e-5 in the product, and 2e-6 in
    the kernel's own series and logarithms.
    """
    return _CEILING + _CEILING_SLOPE * np.float32(bits_of_float(np.float32(np.int32(h >> 1))))


@njit()
def _noise(h: np.uint32) -> Float32:
    high = np.float32(np.int32(h >> np.uint32(16)))
    low = np.float32(np.int32(h & np.uint32(0xFFFF)))
    u = np.float32(high * _HIGH_SCALE + (low + _HALF) * _LOW_SCALE)
    if u < _QUARTER:
        series = _SERIES[0]
        for i in range(1, 8):
            series = _SERIES[i] + u * series
        return -np.float32(math.log(u * series))
    return -np.float32(math.log(-np.float32(math.log(max(_ONE - u, _SMALLEST)))))


@njit()
def _noise_fp64(high: np.uint32, low: np.uint32) -> float:
    bits = ((np.uint64(high) << np.uint64(32)) | np.uint64(low)) >> np.uint64(11)
    u = min((np.float64(bits) + 0.5) * 2.0**-53, 1.0 - 2.0**-53)
    return -math.log(-math.log(u))


@njit()
def _count_passing(
    logits: Array, keys: Array, scale: Float32, prefix: np.uint32, flip: np.uint32, bar: Float32
) -> np.int32:
    """Count the tokens that could reach the bar; 32-bit throughout, to fill vector registers."""
    count = np.int32(0)
    for i in range(logits.size):
        ceiling = _ceiling(np.uint32(_hash(prefix, keys[i]) ^ flip))
        count = np.int32(count + np.int32(logits[i] * scale + ceiling >= bar))
    return count


@njit()
def _best_noised(
    row: Array,
    keys: Array,
    maxima: Array,
    first: int,
    temperature: Float32,
    seed: int,
    pos: int,
    fp64: bool,
) -> tuple[int, float]:
    """Find the token with the highest noised logit, the lowest id among equals.

    `first` is the token with the highest logit: it wins often, and gives the others a bar to pass.
    """
    prefix = _prefix(seed, pos, np.uint32(0))
    prefix_fp64 = _prefix(seed, pos, _FP64_DOMAIN)
    bounding = prefix_fp64 if fp64 else prefix
    flip = _ONES if fp64 else np.uint32(0)
    highest_noise = _HIGHEST_NOISE_FP64 if fp64 else _HIGHEST_NOISE
    reciprocal = _ONE / temperature
    best, bar = -1, np.float32(-np.inf)
    best_score: float = -np.inf
    for visit in range(-1, num_chunks(row.size)):
        start = first if visit < 0 else visit * CHUNK
        end = first + 1 if visit < 0 else min(start + CHUNK, row.size)
        if visit >= 0:
            if not maxima[visit] * reciprocal + highest_noise >= bar:
                continue
            if (
                _count_passing(row[start:end], keys[start:end], reciprocal, bounding, flip, bar)
                == 0
            ):
                continue
        for token in range(start, end):
            h = _hash(bounding, keys[token])
            if visit >= 0 and not row[token] * reciprocal + _ceiling(np.uint32(h ^ flip)) >= bar:
                continue
            logit = np.float32(row[token] / temperature)
            if fp64:
                score = float(logit) + _noise_fp64(h, _hash(prefix, keys[token]))
            else:
                score = float(np.float32(logit + _noise(h)))
            if score > best_score or (score == best_score and token < best):
                best, best_score = token, score
                bar = np.float32(score - abs(score) * 1e-6)
    return best, best_score


@njit()
def _sample(
    num_rows: int,
    num_blocks: int,
    local_argmax: Array,
    argmax_stride: int,
    floats: Array,
    bits: Array,
    stride: int,
    slots: Array,
    seeds: Array,
    positions: Array,
    temperatures: Array,
    local_max: Array,
    max_stride: int,
    keys: Array,
    salt: int,
    apply_temperature: bool,
    fp64: bool,
) -> None:
    vocab_size = keys.size
    maxima = np.empty(num_chunks(vocab_size), dtype=np.float32)
    scratch = np.empty(vocab_size, dtype=np.float32)
    for i in range(num_rows):
        row = row_at(floats, bits, i * stride, scratch)
        highest = fill_chunk_maxima(row, maxima)
        token = index_of(row, maxima, highest)
        score = float(highest)
        slot = slots[i]
        temperature = np.float32(temperatures[slot]) if slot >= 0 else np.float32(0.0)
        if temperature != 0.0 and highest > -np.inf:
            scale = temperature if apply_temperature else _ONE
            token, score = _best_noised(
                row, keys, maxima, token, scale, seeds[slot], positions[i] + salt, fp64
            )
        local_argmax[i * argmax_stride : i * argmax_stride + num_blocks] = token
        local_max[i * max_stride : i * max_stride + num_blocks] = -np.inf
        local_max[i * max_stride] = score


def _cache_logits(
    cache: torch.Tensor, columns: torch.Tensor, source: torch.Tensor, slots: torch.Tensor
) -> None:
    rows = torch.nonzero(slots >= 0).flatten()
    columns = columns[rows] if columns.dim() > 0 else columns.expand(rows.shape[0])
    cache[slots[rows].long(), columns.long(), : source.shape[-1]] = source[rows]


def gumbel_sample(
    local_argmax: torch.Tensor,
    local_argmax_stride: int,
    local_max: torch.Tensor,
    local_max_stride: int,
    logits_cache: torch.Tensor | None,
    _logits_cache_stride_0: int,
    _logits_cache_stride_1: int,
    logits_cache_col: torch.Tensor | None,
    logits_cache_source: torch.Tensor | None,
    _logits_cache_source_stride: int,
    logits: torch.Tensor,
    logits_stride: int,
    expanded_idx_mapping: torch.Tensor,
    seeds: torch.Tensor,
    pos: torch.Tensor,
    temperature: torch.Tensor,
    vocab_size: int,
    _block_size: int,
    is_drafting: bool,
    apply_temperature: bool,
    use_fp64: bool,
    _per_token_col: bool,
    *,
    grid: Grid,
) -> None:
    """Sample a token per row of logits `[B, V]`: block 0 gets the winner, the others -inf."""
    if logits_cache is not None and logits_cache_col is not None:
        assert logits_cache_source is not None
        _cache_logits(logits_cache, logits_cache_col, logits_cache_source, expanded_idx_mapping)
    winners = (grid[0], grid[1], flat(local_argmax), local_argmax_stride)
    scores = (flat(local_max), local_max_stride)
    rows = (*readable_rows(logits, logits_stride), flat(expanded_idx_mapping))
    requests = (flat(seeds), flat(pos), flat(temperature))
    salt = _DRAFT_SALT if is_drafting else 0
    keys = _token_keys(vocab_size)
    _sample(*winners, *rows, *requests, *scores, keys, salt, apply_temperature, use_fp64)
