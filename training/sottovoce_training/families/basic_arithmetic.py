"""Expressions with parentheses and products, innermost and leftmost first."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family
from .numbers import OPERATIONS

_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


def _evaluate(node: ast.expr, chain: Chain) -> tuple[int, int | None]:
    """An expression's value and the step that found it, None for a given number."""
    if isinstance(node, ast.BinOp):
        left, left_step = _evaluate(node.left, chain)
        right, right_step = _evaluate(node.right, chain)
        line, value = OPERATIONS[_SIGNS[type(node.op)]](left, right)
        return value, chain.add(line, left_step, right_step)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value, step = _evaluate(node.operand, chain)
        if step is not None:
            step = chain.add(f"-({value}) = {-value}", step)
        return -value, step
    return int(ast.literal_eval(node)), None


def solve(entry: Mapping[str, Any]) -> Chain:
    """One step an operation."""
    chain = Chain()
    expression = ast.parse(entry["metadata"]["expression"], mode="eval").body
    value, _ = _evaluate(expression, chain)
    chain.answer = str(value)
    return chain


FAMILY = Family(
    "basic_arithmetic",
    solve,
    {
        "min_terms": 4,
        "max_terms": 6,
        "min_digits": 1,
        "max_digits": 1,
        "operators": ["+", "-", "*"],
    },
)
