"""What only a request's tokens and limits tell: whether its latent steps can be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce_kernels import Phase

from ..errors import InvalidValueError, UnsupportedModeError
from ..phases import phase_at_end
from .params import ShortcutParams

if TYPE_CHECKING:
    from ..capabilities import Capabilities


def check_shortcuts(request: Any, params: ShortcutParams, capabilities: Capabilities) -> int:
    """The id that stands for the request's latent steps in what it generates.

    Args:
        request: vLLM's EngineCoreRequest.

    Raises:
        RoutingError: naming the key, the value and the remedy.
    """
    sampling = request.sampling_params
    if sampling.prompt_logprobs is not None:
        remedy = "is not served together with shortcuts; leave out one of them"
        raise InvalidValueError("prompt_logprobs", sampling.prompt_logprobs, remedy)
    if not params.steps:
        return 0
    if sampling.repetition_detection is not None:
        remedy = "takes latent steps for repetition; leave it out, or send shortcuts.steps 0"
        raise InvalidValueError("repetition_detection", sampling.repetition_detection, remedy)
    markers = capabilities.markers
    assert markers is not None
    if phase_at_end(request.prompt_token_ids or (), markers) != Phase.THINK:
        remedy = "need a prompt that ends inside thinking; open it in the prompt, or send 0"
        raise InvalidValueError("shortcuts.steps", params.steps, remedy)
    _check_room(request, params.steps, capabilities)
    stops = sampling.all_stop_token_ids
    found = next((i for i in capabilities.placeholders if i not in stops), None)
    if found is None:
        raise UnsupportedModeError(
            params.steps,
            "need a special token that does not stop the request, to be recorded in their place; "
            "send 0, or fewer stop_token_ids",
            "shortcuts.steps",
        )
    return found


def _check_room(request: Any, steps: int, capabilities: Capabilities) -> None:
    """A token of the answer must fit behind the steps and the end marker."""
    taken, limit = steps + capabilities.num_end_tokens, request.sampling_params.max_tokens
    if limit is not None and taken >= limit:
        raise InvalidValueError(
            "shortcuts.steps",
            steps,
            f"and the {capabilities.num_end_tokens} that end thinking leave nothing of max_tokens, "
            f"{limit}, for the answer; lower it or raise max_tokens",
        )
    room = capabilities.max_model_len - len(request.prompt_token_ids or ())
    if taken >= room:
        raise InvalidValueError(
            "shortcuts.steps", steps,
            f"do not fit the {room} tokens that the prompt leaves of the context; lower it or "
            "shorten the prompt",
        )  # fmt: skip
