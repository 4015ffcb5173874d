"""The one middleware around vLLM's app: keys, limits, drain, and what a request gains and loses."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import uuid
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.middleware.cors import CORSMiddleware

from sottovoce_router import REQUEST_KEYS, Capabilities, RoutingError, parse_routing
from sottovoce_router.markers import marker_ids
from sottovoce_router.observe import observer

from . import errors
from .account import Account
from .body import ClientGoneError, parse_object, read_body, with_body
from .defaults import read_defaults
from .drain import Drain
from .effort import parse_shares
from .errors import ApiError
from .metrics import Metrics
from .outcome import Caller, outcome_of
from .page import read_pages
from .render import Renderer, with_modes
from .reply import Answer, Changes, Receive, Reply, Scope, Send
from .savings import draw_arm
from .settings import ServerSettings
from .tally import Tally
from .translate import (
    GENERATION_ROUTES,
    SAGEMAKER_ROUTE,
    Translation,
    endpoint_of,
    leaves_mode,
    translate,
)

OPEN_ROUTES = frozenset({"/health", "/ready", "/metrics", "/ping"})
# They generate too, but their protocols have no place for our fields.
_OTHER_GENERATION = frozenset(
    {"/inference/v1/generate", "/generative_scoring", "/v1/systemone", "/cohere/v2/chat"}
)
_QUEUED = _OTHER_GENERATION | GENERATION_ROUTES.keys() | {SAGEMAKER_ROUTE}


class Gateway:
    """ASGI middleware; vLLM adds it by import path, in every API server process."""

    def __init__(self, app: Any, registry: CollectorRegistry = REGISTRY) -> None:
        self._app, self._registry = app, registry
        self._pages = read_pages()
        self._context: _Context | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._start(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._context_of(scope)
        try:
            await self._serve(context, scope, receive, send)
        except ApiError as error:
            if _path_of(scope) not in OPEN_ROUTES:
                context.account.refuse(error.code)
            answer = Answer(error.status, error.body(), error.headers)
            await context.allow_origins(answer)(scope, receive, send)
        except ClientGoneError:
            return

    def _context_of(self, scope: Scope) -> _Context:
        if self._context is None:
            self._context = _Context(scope["app"].state, self._registry)
        return self._context

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse to start with a default that every request would be refused for."""
        refusal = self._context_of(scope).refusal_of_default()
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": refusal})

    async def _serve(self, context: _Context, scope: Scope, receive: Receive, send: Send) -> None:
        path = _path_of(scope)
        if path in self._pages and scope["method"] in ("GET", "HEAD"):
            await self._pages[path](scope, receive, send)
            return
        if scope["method"] != "OPTIONS" and path not in OPEN_ROUTES:
            scope = context.authenticate(scope)
        if path in ("/ready", "/health") and context.drain.is_draining:
            raise errors.draining()
        if path == "/metrics" and context.settings.control_fraction:
            await asyncio.to_thread(context.account.estimate_saving)  # it may read many files
        if path == "/ready":
            answer = Answer(503 if context.engine.errored else 200)
            await context.allow_origins(answer)(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(context, path, scope, receive, send)
        else:
            is_list = path == "/v1/models" and scope["method"] == "GET"
            show = Changes(body=context.show_models if is_list else None)
            await self._app(scope, receive, Reply(send, show))

    async def _post(
        self, context: _Context, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await read_body(scope, receive, context.settings.max_body_bytes)
        with context.drain.admit(context.settings.max_queue if path in _QUEUED else 0):
            request, not_finite = parse_object(body) if path in _QUEUED else ({}, set[str]())
            endpoint = endpoint_of(path, request)
            if endpoint is None:
                _refuse_our_keys(request, path)
                await self._app(*with_body(scope, receive, body), Reply(send, Changes()))
                return
            scope, arm = context.draw_arm(scope, request)
            translation = context.translate(request, endpoint, arm)
            if not_finite:
                raise errors.not_finite(not_finite)
            await self._generate(context, translation, scope, receive, send)

    async def _generate(
        self,
        context: _Context,
        translation: Translation,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        tally = context.new_tally(translation)
        renderer = Renderer(translation, tally)
        header = (b"x-reasoning-mode", translation.params.mode.encode())
        reply = Reply(send, Changes([header], renderer.whole, renderer.event))
        caller = Caller(receive, reply)
        payload = json.dumps(translation.body).encode()
        failure: BaseException | None = None
        # Beam search makes requests of its own, whose outputs are not the response's.
        token = observer.set(None if translation.searches_beams else tally.watch)
        try:
            await self._app(*with_body(scope, caller, payload), reply)
        except BaseException as error:
            failure = error
            raise
        finally:
            observer.reset(token)
            outcome = outcome_of(caller, reply, renderer, failure)
            if outcome == "refused" and reply.code is not None:
                context.account.refuse(reply.code)
            context.account.close(translation, tally, outcome)


def _path_of(scope: Scope) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path") or "")
    return path


def _refuse_our_keys(request: dict[str, Any], path: str) -> None:
    for key in REQUEST_KEYS:
        if request.get(key) is not None:
            raise errors.wrong_route(key, path, list(GENERATION_ROUTES))


class _Context:
    """What a process's gateway needs of the app, read at its first request."""

    def __init__(self, state: Any, registry: CollectorRegistry) -> None:
        self.settings = ServerSettings.from_args(state.args)
        self.engine = state.engine_client
        config = self.engine.vllm_config
        self.capabilities = Capabilities.from_config(config)
        self._server_sampling = config.model_config.get_diff_sampling_param()
        defaults = read_defaults(self.settings.routing_defaults)
        self._routing = parse_routing(defaults)
        shortcuts, latent = self.capabilities.shortcuts, self.capabilities.latent
        trained = {
            "shortcuts": None if shortcuts is None else shortcuts.as_card(),
            "latent": None if latent is None else latent.as_card(),
        }
        self.show_models = partial(
            with_modes,
            modes=self.capabilities.modes,
            routing_defaults=defaults,
            trained=trained,
        )
        self._shares = parse_shares(self.settings.effort_shares)
        self._markers = marker_ids(config)
        self._num_layers = config.model_config.get_num_layers(config.parallel_config)
        keys = state.args.api_key or [os.environ.get("VLLM_API_KEY", "")]
        self._keys = [key.encode() for key in keys if key]
        self.drain = Drain.of(state, self.settings.drain_timeout_s)
        # vLLM's own CORS lies behind this middleware, where our answers do not pass.
        self.allow_origins = partial(
            CORSMiddleware,
            allow_origins=state.args.allowed_origins,
            allow_credentials=state.args.allow_credentials,
            allow_methods=state.args.allowed_methods,
            allow_headers=state.args.allowed_headers,
        )
        metrics = Metrics(registry, os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
        metrics.show_ledger_limit(self.capabilities.ledger_bytes)
        self.account = Account(metrics)

    def refusal_of_default(self) -> str | None:
        """Why --default-reasoning-mode cannot be the default of this engine."""
        mode = self.settings.default_reasoning_mode
        if mode in self.capabilities.modes:
            return None
        return f"--default-reasoning-mode: {mode!r} {self.capabilities.refusal}"

    def authenticate(self, scope: Scope) -> Scope:
        """The request with its key where vLLM's own check of /v1 looks for it.

        Raises:
            ApiError: 401, keys are set and the request has none of them.
        """
        if not self._keys:
            return scope
        headers = dict(scope["headers"])
        scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            sent = headers.get(b"x-api-key", b"")
        found = [key for key in self._keys if hmac.compare_digest(sent.strip(), key)]
        if not found:
            raise errors.bad_api_key()
        others = [(k, v) for k, v in scope["headers"] if k != b"authorization"]
        return {**scope, "headers": [*others, (b"authorization", b"Bearer " + found[0])]}

    def draw_arm(self, scope: Scope, request: dict[str, Any]) -> tuple[Scope, str | None]:
        """The arm of a request that leaves its mode to us, and the request with the id it goes by."""
        fraction = self.settings.control_fraction
        if not fraction or not leaves_mode(request):
            return scope, None
        request_id = request.get("request_id")
        sent = dict(scope["headers"]).get(b"x-request-id")
        if sent is not None:
            request_id = sent.decode("latin-1")
        elif not isinstance(request_id, str):
            request_id = uuid.uuid4().hex
            header = (b"x-request-id", request_id.encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        return scope, draw_arm(request_id, fraction)

    def translate(self, request: dict[str, Any], endpoint: str, arm: str | None) -> Translation:
        """The request as vLLM takes it.

        Raises:
            ApiError: 400, our fields are wrong.
        """
        mode = self.settings.default_reasoning_mode
        sampling, routing = self._server_sampling, self._routing
        try:
            return translate(
                request, endpoint, self.capabilities, sampling, mode, routing, arm, self._shares
            )
        except RoutingError as error:
            raise errors.from_routing_error(error) from error

    def new_tally(self, translation: Translation) -> Tally:
        """An empty tally that can spell this model's tokens."""
        tokenizer = self.engine.renderer.tokenizer
        return Tally(
            self._markers,
            lambda ids: str(tokenizer.decode(list(ids))),
            self._num_layers,
            translation.num_prompts,
            translation.num_per_prompt,
            self.account.hold,
        )
