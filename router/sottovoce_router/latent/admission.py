"""What only a request's tokens and limits tell: whether its latent steps can be taken, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce_kernels import Phase

from ..errors import InvalidValueError, UnsupportedModeError
from ..phases import count_thought, phase_at_end

if TYPE_CHECKING:
    from ..capabilities import Capabilities


NO_STEPS = {"steps": 0, "placeholder": 0}
_WITHOUT = {"shortcuts": "send shortcuts.steps 0", "latent": "use reasoning_mode explicit"}


def plan_steps(request: Any, owner: str, steps: int, capabilities: Capabilities) -> dict[str, int]:
    """The part of a request's stamp that says how it takes latent steps.

    Args:
        request: vLLM's EngineCoreRequest.
        owner: the request's key that they belong to, shortcuts or latent.

    Returns:
        `steps`, the most it takes, of which a thinking budget may have left fewer, and
        `placeholder`, the id that stands for one in what the request generates.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    if not steps:
        return NO_STEPS
    key, without = f"{owner}.steps", _WITHOUT[owner]
    _check_company(request.sampling_params, without, capabilities)
    prompt, markers = request.prompt_token_ids or (), capabilities.markers
    assert markers is not None
    if phase_at_end(prompt, markers) != Phase.THINK:
        remedy = "needs a prompt that ends inside thinking; open it in the prompt, or "
        raise InvalidValueError(key, steps, remedy + without)
    budget = request.sampling_params.thinking_token_budget
    if budget is not None and budget >= 0:
        steps = min(steps, max(budget - count_thought(prompt, markers), 0))
        if not steps:
            return NO_STEPS
    _check_room(request, key, steps, capabilities)
    stops = request.sampling_params.all_stop_token_ids
    found = next((i for i in capabilities.placeholders if i not in stops), None)
    if found is None:
        raise UnsupportedModeError(
            steps,
            "needs a special token that does not stop the request, to be recorded in their place; "
            f"{without}, or fewer stop_token_ids",
            key,
        )
    return {"steps": steps, "placeholder": found}


def _check_company(sampling: Any, without: str, capabilities: Capabilities) -> None:
    """Refuse what would read the placeholders of latent steps as text."""
    if sampling.repetition_detection is not None:
        remedy = f"takes latent steps for repetition; leave it out, or {without}"
        raise InvalidValueError("repetition_detection", sampling.repetition_detection, remedy)
    capabilities.check_grammar(sampling)


def _check_room(request: Any, key: str, steps: int, capabilities: Capabilities) -> None:
    """A token of the answer must fit behind the steps and the end marker."""
    taken, limit = steps + capabilities.num_end_tokens, request.sampling_params.max_tokens
    if limit is not None and taken >= limit:
        raise InvalidValueError(
            key,
            steps,
            f"and the {capabilities.num_end_tokens} that end thinking leave nothing of max_tokens, "
            f"{limit}, for the answer; lower it or raise max_tokens",
        )
    room = capabilities.max_model_len - len(request.prompt_token_ids or ())
    if taken >= room:
        raise InvalidValueError(
            key, steps,
            f"do not fit the {room} tokens that the prompt leaves of the context; lower it or "
            "shorten the prompt",
        )  # fmt: skip
