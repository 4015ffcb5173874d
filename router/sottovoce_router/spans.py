"""Spans: runs of rows of one buffer, each owned by a request."""

from __future__ import annotations


class Spans:
    """Hands out the first run of free rows that is long enough."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._taken: dict[str, tuple[int, int]] = {}  # first row, and the one past the last

    def take(self, owner: str, length: int) -> int | None:
        """The owner's first row, the same at every call; None where no gap is long enough."""
        if owner in self._taken:
            return self._taken[owner][0]
        start = 0
        for first, end in sorted(self._taken.values()):
            if first - start >= length:
                break
            start = end
        else:
            if self._num_rows - start < length:
                return None
        self._taken[owner] = (start, start + length)
        return start

    def release(self, owner: str) -> None:
        """Give an owner's rows back."""
        self._taken.pop(owner, None)
