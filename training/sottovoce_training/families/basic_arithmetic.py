"""Expressions with parentheses and products, innermost and leftmost first."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from ..chain import Chain
from .family import Family
from .numbers import OPERATIONS, show

_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_SUM, _PRODUCT = 1, 2  # how tightly an operation binds


class _Reduction:
    """An expression that shrinks by one operation a step, and is written out anew each time."""

    def __init__(self, root: ast.expr) -> None:
        self.root, self.chain = root, Chain()
        self._known: dict[int, tuple[int, int | None]] = {}  # value and step of nodes, by id

    def value(self, node: ast.expr) -> int:
        """The value of a node, which is found on the way, and with it those below."""
        return self._find(node)[0]

    def _find(self, node: ast.expr) -> tuple[int, int | None]:
        if id(node) not in self._known:
            self._known[id(node)] = self._reduce(node)
        return self._known[id(node)]

    def _reduce(self, node: ast.expr) -> tuple[int, int | None]:
        if isinstance(node, ast.BinOp):
            (left, left_step), (right, right_step) = self._find(node.left), self._find(node.right)
            line, value = OPERATIONS[_SIGNS[type(node.op)]](left, right)
            return value, self._note(node, line, value, left_step, right_step)
        if isinstance(node, ast.UnaryOp):
            value, step = self._find(node.operand)
            is_number = isinstance(node.operand, ast.Constant)  # the minus is a number's own
            line = f"-({value}) = {-value}"
            return -value, None if is_number else self._note(node, line, -value, step)
        return int(ast.literal_eval(node)), None

    def _note(self, node: ast.expr, line: str, value: int, *uses: int | None) -> int:
        self._known[id(node)] = value, None
        is_last = node is self.root
        return self.chain.add(line if is_last else f"{line}, left {self._text(self.root)}", *uses)

    def _text(self, node: ast.expr, binds: int = 0) -> str:
        """What is left of a node, with no more parentheses than it needs."""
        if isinstance(node, ast.Constant) or id(node) in self._known:
            return show(self.value(node))
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.operand, ast.Constant):
                return show(self.value(node))
            inner = self._text(node.operand)
            is_bracketed = id(node.operand) in self._known and inner.startswith("(")
            return f"-{inner}" if is_bracketed else f"-({inner})"
        assert isinstance(node, ast.BinOp)
        sign = _SIGNS[type(node.op)]
        own = _PRODUCT if sign == "*" else _SUM
        text = f"{self._text(node.left, own)} {sign} {self._text(node.right, own + 1)}"
        return f"({text})" if own < binds else text


def solve(entry: Mapping[str, Any]) -> Chain:
    """One operation a step, and what is left of the expression after it."""
    expression = ast.parse(entry["metadata"]["expression"], mode="eval").body
    reduction = _Reduction(expression)
    reduction.chain.answer = str(reduction.value(expression))
    return reduction.chain


FAMILY = Family(
    "basic_arithmetic",
    solve,
    {
        "min_terms": 3,
        "max_terms": 4,
        "min_digits": 1,
        "max_digits": 1,
        "operators": ["+", "-", "*"],
    },
)
