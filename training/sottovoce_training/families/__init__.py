"""The problem families that the tiny reasoner learns, by name."""

from .family import SPLITS, Family, Problem
from .table import FAMILIES

__all__ = ["FAMILIES", "SPLITS", "Family", "Problem"]
