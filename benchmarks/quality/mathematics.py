"""Whether two mathematical answers are the same, by math-verify."""

from __future__ import annotations


def is_equal(reference: str, text: str) -> bool:
    """Whether the answer in `text` (the last \\boxed{} first) equals the reference.

    Must run in the main thread: math-verify limits its own time by a signal.
    """
    from math_verify import parse, verify

    gold = parse(reference if "\\" not in reference else f"${reference}$")
    return bool(verify(gold, parse(text)))
