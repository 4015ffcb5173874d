"""What travels: pydantic types for the fields that the server's README lists.

A field that a newer server adds is kept and can be read as an attribute; none is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import ProtocolError

Count = Annotated[int, BeforeValidator(lambda value: value or 0)]  # null where nothing was counted
# vLLM writes `reasoning`, older servers `reasoning_content`.
_REASONING = AliasChoices("reasoning", "reasoning_content")


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


WireT = TypeVar("WireT", bound=_Wire)


def read_wire(kind: type[WireT], data: str | bytes) -> WireT:
    """JSON text as one of the types below.

    Raises:
        ProtocolError: it is no JSON, or a field has the wrong type.
    """
    try:
        return kind.model_validate(json.loads(data))
    except (ValueError, ValidationError) as error:
        raise ProtocolError(f"the answer is no {kind.__name__}: {error}") from error


class ColdStop(_Wire):
    """Force the end of thinking after `steps` steps in a row of an entropy below `entropy` nats."""

    entropy: float | None = None
    steps: int | None = None


class Routing(_Wire):
    """The `routing` object of a request; a field left out is the server's to choose.

    Parameters of policies that this client does not know go in as they are:
    `Routing.model_validate({"policy": "new", "window": 8})`, or the mapping alone.
    """

    policy: str | None = None
    threshold: float | None = None  # (0, 1]: p_max strictly below it goes discrete
    confidence: str | None = None  # tempered or raw
    top_n: int | None = None  # 1 to 32 components of a mixture
    mix_temperature: float | None = None
    soft_share: float | None = None  # 0 to 1: policy `random`
    gumbel_temperature: float | None = None  # policy `stochastic`
    beta: float | None = None  # policy `moi`
    phase: str | None = None  # think or all: policies `moi` and `swi`
    entropy_threshold: float | None = None  # 0 to 1: policy `selar`
    push_off: float | None = None  # 0 to 10: policy `selar`
    mix: str | None = None  # top_n or full: policy `swi`
    window: int | None = None  # steps: policy `swi`
    switch_budget: int | None = None  # switches to discrete, 0 for no limit: policy `swi`
    enter_blend: float | None = None  # 0 to 1: policy `swi`
    exit_blend: float | None = None  # 0 to 1: policy `swi`
    min_answer_tokens: int | None = None  # that thinking leaves of max_tokens
    cold_stop: ColdStop | None = None  # None, said aloud, turns it off

    def as_body(self) -> dict[str, Any]:
        """Only what was set, as the request carries it."""
        return self.model_dump(exclude_unset=True)


class Alternative(_Wire):
    """One component of a step's mixture."""

    token_id: int
    token: str
    weight: float  # of 1


class TraceStep(_Wire):
    """One thinking step."""

    # The token recorded: of a soft step the one of the largest weight, but of `moi` and `swi` the
    # one that was sampled.
    token_id: int
    token: str
    route: str  # soft, discrete, forced or latent
    p_max: float  # 0 to 1
    entropy: float  # nats
    alternatives: tuple[Alternative, ...] = ()
    step: str | None = None  # a latent step in words, of a model that has a decoder of them


class Shortcuts(_Wire):
    """System-1.5 shortcuts."""

    depth: float | None = None  # a layer whose router is above it is skipped; None: none is
    steps: Count = 0  # latent steps before the text


class RoutingSummary(_Wire):
    """The routing that took effect."""

    mode: str
    policy: str | None = None
    threshold: float | None = None
    arm: str | None = None  # control, treatment, or in no experiment
    thinking_budget: int | None = None  # tokens, the request's own or its effort's
    shortcuts: Shortcuts | None = None  # of a request that had them
    latent: Mapping[str, Any] | None = None  # of a latent-trained model's own: `steps`
    trace: tuple[TraceStep, ...] = ()  # of responses and messages, which have no choices


class UsageDetails(_Wire):
    """What the tokens of an answer were; totals over its choices."""

    reasoning_tokens: Count = 0
    soft_steps: Count = 0
    discrete_steps: Count = 0
    forced_steps: Count = 0
    latent_steps: Count = 0  # before the first token, which no text is of
    switches: Count = 0  # between soft and discrete
    layers_run: Count = 0
    layers_skipped: Count = 0


class Usage(_Wire):
    """Tokens of a request and of its answer."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0
    completion_tokens_details: UsageDetails | None = None

    @property
    def details(self) -> UsageDetails:
        """The details, all zero where the server gave none."""
        return self.completion_tokens_details or UsageDetails()


class ChoiceRouting(_Wire):
    """The thinking of one choice, or what is new of it."""

    trace: tuple[TraceStep, ...] = ()


class TracedChoice(_Wire):
    """A choice of any endpoint."""

    index: int = 0
    finish_reason: str | None = None
    routing: ChoiceRouting | None = None

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """The thinking steps, where the request asked for them."""
        return self.routing.trace if self.routing else ()


class TracedResponse(_Wire):
    """What the answers of all endpoints have in common."""

    choices: tuple[TracedChoice, ...] = ()
    routing: RoutingSummary | None = None

    @property
    def traces(self) -> list[tuple[TraceStep, ...]]:
        """The thinking of each choice, or of the one answer that there is; none that is empty."""
        whole = self.routing.trace if self.routing else ()
        return [trace for trace in (whole, *(choice.trace for choice in self.choices)) if trace]


class Message(_Wire):
    """What the model said."""

    role: str = "assistant"
    content: str | None = None
    reasoning: str | None = Field(default=None, validation_alias=_REASONING)
    tool_calls: tuple[Mapping[str, Any], ...] | None = None


class Choice(TracedChoice):
    """A choice of a chat completion."""

    message: Message


class Completion(TracedResponse):
    """A whole answer; the short names are those of its first choice."""

    id: str = ""
    model: str = ""
    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage = Usage()

    @property
    def text(self) -> str:
        """The answer."""
        return self.choices[0].message.content or ""

    @property
    def reasoning(self) -> str:
        """The thoughts."""
        return self.choices[0].message.reasoning or ""

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """The thinking steps, where the request asked for them."""
        return self.choices[0].trace


class ToolCallDelta(_Wire):
    """What is new of a tool call."""

    index: int = 0
    id: str | None = None
    function: Mapping[str, Any] = Field(default_factory=dict)


class Delta(_Wire):
    """What is new of a message."""

    content: str | None = None
    reasoning: str | None = Field(default=None, validation_alias=_REASONING)
    tool_calls: tuple[ToolCallDelta, ...] | None = None


class ChunkChoice(TracedChoice):
    """What is new of a choice."""

    delta: Delta = Delta()


class Chunk(TracedResponse):
    """One chunk of a streamed chat completion; the last one carries usage and routing."""

    id: str = ""
    choices: tuple[ChunkChoice, ...] = ()
    usage: Usage | None = None


class ModelCard(_Wire):
    """A model that the server serves."""

    id: str
    max_model_len: int | None = None  # tokens
    reasoning_modes: tuple[str, ...] = ()
    routing_defaults: Mapping[str, Any] = Field(default_factory=dict)
    shortcuts: Mapping[str, Any] | None = None  # `steps`, `depth`, `trained_steps`
    latent: Mapping[str, Any] | None = None  # `method`, `steps`, `max_steps`


class ModelList(_Wire):
    """The answer of `/v1/models`."""

    data: tuple[ModelCard, ...]


class ErrorDetail(_Wire):
    """What went wrong: the message holds the key, the value and the remedy."""

    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | int | None = None
