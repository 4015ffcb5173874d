"""Passes over one row of logits that several kernels share, written so that LLVM vectorises them.

A row is summarised by the maxima of its chunks first; later passes skip whole chunks by them.
"""

import math

import numpy as np

from sottovoce_kernels.engine.arrays import Array, Float32
from sottovoce_kernels.engine.jit import bits_of_float, float_of_bits, njit

CHUNK = 64
_SIGN = np.int32(31)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LOWEST = np.int32(-0x80000000)
_LOG2_E = np.float32(1.0 / math.log(2.0))
# ln 2 in two parts, so that the reduced argument of `fast_exp` keeps all its bits.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_MIN = np.float32(-87.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_C3 = np.float32(1.0 / 6.0)
_C4 = np.float32(1.0 / 24.0)
_C5 = np.float32(1.0 / 120.0)
_C6 = np.float32(1.0 / 720.0)
_C7 = np.float32(1.0 / 5040.0)
# 2^f for |f| <= 1/2 within 1e-7 relative: a minimax quintic (Remez) that is exact at 0.
_E1 = np.float32(0.693147004)
_E2 = np.float32(0.240222424)
_E3 = np.float32(0.0555073358)
_E4 = np.float32(0.00967151299)
_E5 = np.float32(0.00132647273)
# Adding 1.5 * 2^23 rounds a float to an integer, which then stands in its lowest bits.
_ROUNDER = np.float32(12582912.0)


@njit()
def num_chunks(size: int) -> int:
    return (size + CHUNK - 1) // CHUNK


@njit()
def _reverse_negatives(bits: np.int32) -> np.int32:
    """Map a float's bits to an integer in the order of the floats, and back."""
    return np.int32(bits ^ ((bits >> _SIGN) & _MAGNITUDE))


@njit()
def fill_chunk_maxima(row: Array, maxima: Array) -> Float32:
    """Store each chunk's maximum and return the row's.

    Integers are compared, because LLVM vectorises their maximum and not that of floats.
    """
    overall = _LOWEST
    for chunk in range(num_chunks(row.size)):
        part = row[chunk * CHUNK : (chunk + 1) * CHUNK]
        highest = _LOWEST
        for i in range(part.size):
            highest = max(highest, _reverse_negatives(bits_of_float(part[i])))
        maxima[chunk] = float_of_bits(_reverse_negatives(highest))
        overall = max(overall, highest)
    return float_of_bits(_reverse_negatives(overall))


@njit()
def index_of(row: Array, maxima: Array, value: Float32) -> int:
    """Find the first element equal to `value`, 0 if none is."""
    for chunk in range(num_chunks(row.size)):
        if maxima[chunk] == value:
            for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, row.size)):
                if row[i] == value:
                    return i
    return 0


@njit()
def fast_exp(x: Float32) -> Float32:
    """Exponential of x <= 0 within 2e-7 relative; below -87 it stays at exp(-87), about 1e-38."""
    x = max(x, _EXP_MIN)
    exponent = np.int32(x * _LOG2_E - _HALF)
    scale = np.float32(exponent)
    r = x - scale * _LN2_HIGH - scale * _LN2_LOW
    tail = _C4 + r * (_C5 + r * (_C6 + r * _C7))
    value = _ONE + r + r * r * (_HALF + r * (_C3 + r * tail))
    return value * float_of_bits(np.int32((exponent + np.int32(127)) << np.int32(23)))


@njit(fuse=True)
def fast_exp2(x: Float32) -> Float32:
    """2^x for -126 <= x <= 0 within 3e-7 relative, at half the work of `fast_exp`."""
    rounded = x + _ROUNDER
    f = x - (rounded - _ROUNDER)
    value = ((((_E5 * f + _E4) * f + _E3) * f + _E2) * f + _E1) * f + _ONE
    return float_of_bits(np.int32(bits_of_float(value) + (bits_of_float(rounded) << np.int32(23))))


@njit(reorder=True)
def sum_exp(row: Array, highest: Float32) -> float:
    """Sum exp(x - highest); chunks are summed in float32, their sums in float64."""
    total: Float32 = np.float64(0.0)
    for chunk in range(num_chunks(row.size)):
        part = row[chunk * CHUNK : (chunk + 1) * CHUNK]
        subtotal = np.float32(0.0)
        for i in range(part.size):
            subtotal += fast_exp(part[i] - highest)
        total += subtotal
    return float(total)
