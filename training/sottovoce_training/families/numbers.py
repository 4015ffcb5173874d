"""Arithmetic on whole numbers, written out a digit's place at a time."""

from __future__ import annotations

Line = tuple[str, int]  # what is written, and its result


def show(value: int) -> str:
    """A number; a negative one in parentheses, as an operand is written."""
    return f"({value})" if value < 0 else str(value)


def _add_up(a: int, b: int) -> str:
    """The parts of a + b, both positive: units, the rest, and their sum."""
    units, rest = a % 10 + b % 10, a - a % 10 + b - b % 10
    if a < 10 or b < 10 or units < 10:
        return str(a + b)
    return f"{rest} + {units} = {a + b}"


def _take_off(a: int, b: int) -> str:
    """The parts of a - b, a >= b >= 0: the tens off first, then the units."""
    if b < 10 or b % 10 == 0:
        return str(a - b)
    middle = a - (b - b % 10)
    return f"{middle} - {b % 10} = {a - b}"


def add(a: int, b: int) -> Line:
    """a + b."""
    head, total = f"{show(a)} + {show(b)} = ", a + b
    if a >= 0 and b >= 0:
        return head + _add_up(a, b), total
    if a < 0 and b < 0:
        return head + f"-({-a} + {-b}) = {total}", total
    high, low = max(abs(a), abs(b)), min(abs(a), abs(b))
    inner = f"{high} - {low}"
    if total < 0:
        return head + f"-({inner}) = {total}", total
    return head + f"{inner} = {_take_off(high, low)}", total


def subtract(a: int, b: int) -> Line:
    """a - b."""
    head, total = f"{show(a)} - {show(b)} = ", a - b
    if b < 0:
        return head + add(a, -b)[0], total
    if a < 0:
        return head + f"-({-a} + {b}) = {total}", total
    if a < b:
        return head + f"-({b} - {a}) = {total}", total
    return head + _take_off(a, b), total


def multiply(a: int, b: int) -> Line:
    """a * b: the larger factor split into its tens and units where it has both."""
    head, total = f"{show(a)} * {show(b)} = ", a * b
    high, low = max(abs(a), abs(b)), min(abs(a), abs(b))
    if high < 10 or high % 10 == 0 or low < 2:
        return head + str(total), total
    tens, units = high - high % 10, high % 10
    sign, close = ("-(", ")") if total < 0 else ("", "")
    parts = f"{tens} * {low} + {units} * {low}{close} = {sign}{tens * low} + {units * low}{close}"
    return f"{head}{sign}{parts} = {total}", total


OPERATIONS = {"+": add, "-": subtract, "*": multiply}
