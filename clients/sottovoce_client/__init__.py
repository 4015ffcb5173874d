"""A typed client of the server, sync and async; nothing here imports torch, vllm or the server.

The terminal programs (`chat.py`, `explain.py`) are behind the `sottovoce` command.
"""

from .async_client import AsyncChatStream, AsyncClient
from .client import ChatStream, Client
from .errors import (
    AnswerTimeoutError,
    AuthenticationError,
    BadRequestError,
    BodyTooLargeError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    SottovoceError,
    StatusError,
    StreamCutError,
    TransportError,
    UnavailableError,
    UnsupportedModeError,
)
from .events import AnswerText, Done, Event, ReasoningText, ThinkingStep, ToolCallPart
from .request import ChatOptions, Prompt
from .retry import Retries
from .shared import ClientOptions
from .wire import (
    Alternative,
    Choice,
    ColdStop,
    Completion,
    Message,
    ModelCard,
    Routing,
    RoutingSummary,
    TraceStep,
    Usage,
    UsageDetails,
)

__all__ = [
    "Alternative",
    "AnswerText",
    "AnswerTimeoutError",
    "AsyncChatStream",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "BodyTooLargeError",
    "ChatOptions",
    "ChatStream",
    "Choice",
    "Client",
    "ClientOptions",
    "ColdStop",
    "Completion",
    "ContextLengthError",
    "Done",
    "Event",
    "Message",
    "ModelCard",
    "ModelNotFoundError",
    "NotFoundError",
    "Prompt",
    "ProtocolError",
    "RateLimitedError",
    "ReasoningText",
    "Retries",
    "Routing",
    "RoutingSummary",
    "ServerError",
    "SottovoceError",
    "StatusError",
    "StreamCutError",
    "ThinkingStep",
    "ToolCallPart",
    "TraceStep",
    "TransportError",
    "UnavailableError",
    "UnsupportedModeError",
    "Usage",
    "UsageDetails",
]
