"""Markers in lists of token ids."""

from __future__ import annotations

import random

import pytest

from sottovoce_router.phases import find_first, find_last


@pytest.mark.parametrize("marker", [(1,), (1, 2), (1, 1), (1, 2, 1)])
def test_found_where_a_plain_search_finds_them(marker: tuple[int, ...]) -> None:
    rng, n = random.Random(3), len(marker)
    for length in range(12):
        for _ in range(40):
            tokens = [rng.choice((1, 2, 3)) for _ in range(length)]
            hits = [i for i in range(length) if tuple(tokens[i : i + n]) == marker]
            assert find_last(tokens, marker) == (hits[-1] if hits else -1)
            start = rng.randrange(length + 1)
            later = [i for i in hits if i >= start]
            assert find_first(tokens, marker, start) == (later[0] if later else -1)
