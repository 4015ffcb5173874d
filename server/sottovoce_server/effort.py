"""`reasoning_effort` as a thinking budget: a share of the tokens that a request may generate.

vLLM hands the word to the chat template, which most models do not read; a budget holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As vLLM's API has them; one without a share, as `max` by default, has no budget.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
DEFAULT_SHARES = "none=0,minimal=0.1,low=0.2,medium=0.5,high=0.8,xhigh=0.95"
_LIMITS = {"responses": ("max_output_tokens",), "messages": ("max_tokens",)}
_CHAT_LIMITS = ("max_completion_tokens", "max_tokens")


def parse_shares(text: str) -> dict[str, float]:
    """The flag's `low=0.2,high=0.8` as a table; an empty one turns efforts into no budgets.

    Raises:
        ValueError: naming what is wrong and the remedy.
    """
    shares: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, share = part.strip().partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = -1.0
        if name not in EFFORTS or not 0 <= shares[name] <= 1:
            raise ValueError(
                f"--effort-shares has {part!r}; give NAME=SHARE, a name of {', '.join(EFFORTS)} "
                "and a share from 0 to 1"
            )
    return shares


def given_budget(body: Mapping[str, Any], endpoint: str) -> Any:
    """The thinking budget that a request itself sets, -1 for unlimited; None where it says nothing."""
    if endpoint == "messages":
        return _table(body, "thinking").get("budget_tokens")
    return body.get("thinking_token_budget")


def effort_budget(
    body: Mapping[str, Any], endpoint: str, shares: Mapping[str, float], max_model_len: int
) -> int | None:
    """The thinking budget that a request's effort stands for; None where there is none."""
    effort = _effort(body, endpoint)
    if not isinstance(effort, str) or effort not in shares:  # a wrong word is vLLM's to refuse
        return None
    limits = (body.get(key) for key in _LIMITS.get(endpoint, _CHAT_LIMITS))
    limit = next((n for n in limits if isinstance(n, int)), max_model_len)
    return max(int(shares[effort] * min(limit, max_model_len)), 0)


def _effort(body: Mapping[str, Any], endpoint: str) -> Any:
    if endpoint == "responses":
        return _table(body, "reasoning").get("effort")
    if endpoint != "messages":
        return body.get("reasoning_effort")
    is_disabled = _table(body, "thinking").get("type") == "disabled"
    return "none" if is_disabled else _table(body, "output_config").get("effort")


def _table(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}
