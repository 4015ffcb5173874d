"""What head.safetensors holds for each method: the names and shapes that training gives them."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def _feedback(prefix: str, width: int) -> Shapes:
    """LayerNorm(Linear(GELU(Linear(h))))."""
    return {
        f"{prefix}.hidden.weight": (width, width),
        f"{prefix}.hidden.bias": (width,),
        f"{prefix}.out.weight": (width, width),
        f"{prefix}.out.bias": (width,),
        f"{prefix}.norm.weight": (width,),
        f"{prefix}.norm.bias": (width,),
    }


def _linear(prefix: str, width: int, out: int) -> Shapes:
    return {f"{prefix}.weight": (out, width), f"{prefix}.bias": (out,)}


def head_shapes(method: str, width: int) -> Shapes:
    """By name; width is that of the states. Coconut has no head."""
    if method == "codi":
        return _feedback("projection", width)
    if method == "atp":
        found = _feedback("mean", width) | _linear("log_std", width, width)
        return found | _linear("stop", width, 1)
    return {}


NAMES = {method: head_shapes(method, 1).keys() for method in ("coconut", "codi", "atp")}
