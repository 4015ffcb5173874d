"""Where thinking starts and ends in a list of token ids."""

from __future__ import annotations

from collections.abc import Sequence

from sottovoce_kernels import Phase

from .markers import MarkerIds


def find_last(tokens: Sequence[int], marker: tuple[int, ...]) -> int:
    """Index of the last occurrence of a marker, -1 without one."""
    backwards = find_first(tokens[::-1], marker[::-1])
    return len(tokens) - backwards - len(marker) if backwards >= 0 else -1


def find_first(tokens: Sequence[int], marker: tuple[int, ...], start: int = 0) -> int:
    """Index of the first occurrence of a marker from `start` on, -1 without one."""
    n = len(marker)
    try:
        while True:  # by `index`, which is C: a prompt may be long, and a worker waits for this
            at = tokens.index(marker[0], start)
            if tuple(tokens[at : at + n]) == marker:
                return at
            start = at + 1
    except ValueError:
        return -1


def phase_at_end(tokens: Sequence[int], markers: MarkerIds) -> Phase:
    """THINK where the last start marker is not followed by an end marker, else BEFORE."""
    opened = find_last(tokens, markers.start) > find_last(tokens, markers.natural_end)
    return Phase.THINK if opened else Phase.BEFORE


def count_thought(prompt: Sequence[int], markers: MarkerIds) -> int:
    """Tokens that a prompt which ends inside thinking has thought already."""
    return len(prompt) - find_last(prompt, markers.start) - len(markers.start)


def count_thinking(prompt: Sequence[int], output: Sequence[int], markers: MarkerIds) -> int:
    """Generated tokens of the thinking phase, its end marker included."""
    start = 0
    if phase_at_end(prompt, markers) != Phase.THINK:
        opened = find_first(output, markers.start)
        if opened < 0:
            return 0
        start = opened + len(markers.start)
    end = find_first(output, markers.natural_end, start)
    return (end + len(markers.natural_end) if end >= 0 else len(output)) - start
