"""What an engine can serve: read once from its configuration, consulted at every admission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce_kernels import MAX_STOP_IDS
from sottovoce_kernels.engine import CpuTriton
from sottovoce_kernels.layout import NUM_STATE

from .additional import answer_tokens, serves_shortcuts, size_in_bytes
from .errors import InvalidValueError, PluginError, UnsupportedModeError
from .latent.manifest import Manifest as LatentManifest
from .latent.manifest import read_manifest
from .markers import MarkerIds, marker_ids, placeholders
from .params import RoutingParams
from .refusal import refusal_of
from .shortcuts.manifest import Manifest, manifest_of

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams

DEFAULT_LEDGER_TOP_N = 10  # entries a ledger position holds on average
DEFAULT_LEDGER_GIB = 4.0
DEFAULT_VECTOR_LEDGER_GIB = 0.25
_LEDGER_BYTES = 8 * DEFAULT_LEDGER_TOP_N + 4 + 4 * NUM_STATE  # a position: entries, count, state
UNLIMITED = 4  # requests without max_tokens that the vectors have room for at once
ROWS_PER_SLOT = 2  # preempted requests keep their rows while others run


def ledger_rows(config: VllmConfig) -> int:
    """Rows of soft inputs, for the requests that run and for preempted ones."""
    return ROWS_PER_SLOT * int(config.scheduler_config.max_num_seqs)


def ledger_positions(config: VllmConfig) -> int:
    """Generated positions that a ledger row spans: the context, or what its size allows."""
    budget = size_in_bytes(config, "ledger_gib", DEFAULT_LEDGER_GIB)
    if not budget:
        raise PluginError("ledger_gib: 0 holds nothing; give more, or turn soft_modes off")
    return positions_within(budget, ledger_rows(config), int(config.model_config.max_model_len))


def positions_within(budget: float, num_rows: int, max_model_len: int) -> int:
    """Positions that each of the ledger's rows may have in `budget` bytes, the context at most."""
    return min(max_model_len, int(budget / (num_rows * _LEDGER_BYTES)))


def ledger_size(num_rows: int, num_positions: int) -> int:
    """Bytes of a ledger, without vectors."""
    return num_rows * num_positions * _LEDGER_BYTES


def ledger_vectors(config: VllmConfig) -> int:
    """Generated positions for which the ledger holds mixtures of the whole vocabulary."""
    budget = size_in_bytes(config, "vector_ledger_gib", DEFAULT_VECTOR_LEDGER_GIB)
    most = ledger_rows(config) * int(config.model_config.max_model_len)
    return min(int(budget / _vector_bytes(config)), most)


def _vector_bytes(config: VllmConfig) -> int:
    model = config.model_config
    return int(model.get_inputs_embeds_size() * model.dtype.itemsize)


@dataclass(frozen=True)
class Capabilities:
    """Why soft modes are off (None: they are on), and the limits they have when on."""

    refusal: str | None
    ledger_entries: int
    ledger_positions: int
    max_model_len: int
    lacks_prompt_embeds: bool = False  # a CPU's kernels do not read them
    num_end_tokens: int = 1  # of what is written to end thinking
    has_anchors: bool = True  # each marker is one token, whose embedding may be blended in
    ledger_vectors: int = 0  # positions of mixtures of the whole vocabulary, of all requests
    row_bytes: int = 0  # of a request in the ledger, without vectors
    vector_bytes: int = 0
    ledger_bytes: int = 0  # of all engines in parallel, on one rank of each
    shortcuts: Manifest | None = None  # None: the model has none, or they are not served
    latent: LatentManifest | None = None  # None: the model is not latent-trained
    placeholders: tuple[int, ...] = ()  # ids that may stand for a latent step
    markers: MarkerIds | None = None
    grammar_waits: bool = True  # for the answer; else it constrains thinking too
    min_answer_tokens: int = 0  # of requests that do not say

    @classmethod
    def from_config(cls, config: VllmConfig) -> Capabilities:
        """Read an engine's configuration."""
        positions, markers = ledger_positions(config), marker_ids(config)
        vectors, refusal = ledger_vectors(config), refusal_of(config)
        num_ledgers = 0 if refusal else int(config.parallel_config.data_parallel_size)
        is_on = refusal is None and serves_shortcuts(config.additional_config)
        shortcuts = manifest_of(config.model_config, is_on)
        latent = None if refusal else read_manifest(str(config.model_config.model))
        outputs = config.structured_outputs_config
        return cls(
            refusal=refusal,
            ledger_entries=positions * DEFAULT_LEDGER_TOP_N,
            ledger_positions=positions,
            max_model_len=int(config.model_config.max_model_len),
            lacks_prompt_embeds=_lacks_prompt_embeds(),
            num_end_tokens=len(markers.end) if markers else 0,
            ledger_vectors=vectors,
            row_bytes=ledger_size(1, positions),
            vector_bytes=_vector_bytes(config),
            ledger_bytes=num_ledgers
            * (ledger_size(ledger_rows(config), positions) + vectors * _vector_bytes(config)),
            has_anchors=markers is not None and len(markers.start) == len(markers.natural_end) == 1,
            shortcuts=shortcuts,
            latent=latent,
            placeholders=placeholders(config) if shortcuts or latent else (),
            markers=markers,
            grammar_waits=bool(outputs.reasoning_parser) and not outputs.enable_in_reasoning,
            min_answer_tokens=answer_tokens(config.additional_config),
        )

    @property
    def modes(self) -> list[str]:
        """The reasoning modes on offer."""
        return ["explicit"] if self.refusal else ["explicit", "latent", "routed"]

    def max_tokens(self, params: RoutingParams) -> int:
        """Tokens that a row of the ledger holds for a request; a traced explicit one writes too."""
        fits = min(self.ledger_positions, self.ledger_entries // params.num_entries)
        return min(fits, self.ledger_vectors) if params.mixes_all else fits

    def usual_tokens(self, params: RoutingParams) -> int:
        """The same of a request that sets no limit, which leaves vectors for others."""
        fits = self.max_tokens(params)
        return min(fits, max(self.ledger_vectors // UNLIMITED, 1)) if params.mixes_all else fits

    def bytes_of(self, params: RoutingParams, max_tokens: int) -> int:
        """What a request holds of the ledger while it lives."""
        return self.row_bytes + (max_tokens * self.vector_bytes if params.mixes_all else 0)

    def check(self, params: RoutingParams, sampling: SamplingParams) -> None:
        """Refuse what this engine cannot serve; an untraced explicit request needs nothing of ours.

        Raises:
            RoutingError: naming the key, the value and the remedy.
        """
        if params.policy is None:
            return
        if self.refusal:
            if not params.is_soft_capable:
                key = "routing.min_answer_tokens"
                raise UnsupportedModeError(params.min_answer_tokens, self.refusal, key)
            raise UnsupportedModeError(params.mode, self.refusal)
        self._check_room(params, sampling.max_tokens)
        if params.policy == "swi" and not self.has_anchors:
            raise InvalidValueError(
                "routing.policy",
                "swi",
                "blends in markers of one token each, and this model's have more; use another policy",
            )
        if params.switches_on and sampling.structured_outputs is not None:
            raise InvalidValueError(
                "routing.phase",
                params.phase,
                "lets the switch budget write into the answer, whose structure does not allow it; "
                "use think",
            )
        self._check_answer(params.min_answer_tokens, sampling.max_tokens)
        if params.is_soft_capable or params.min_answer_tokens:
            self.check_grammar(sampling)
        if len(sampling.all_stop_token_ids) > MAX_STOP_IDS:
            raise InvalidValueError(
                "stop_token_ids",
                len(sampling.all_stop_token_ids),
                f"is more than the {MAX_STOP_IDS} stop tokens of a soft or traced request; send fewer",
            )

    def check_grammar(self, sampling: SamplingParams) -> None:
        """Refuse a grammar that binds thinking, in which it would forbid the end marker.

        Raises:
            InvalidValueError: with the remedy.
        """
        if sampling.structured_outputs is not None and not self.grammar_waits:
            raise InvalidValueError(
                "structured_outputs",
                "(a grammar)",
                "holds from the first token on, thinking included; start the server with a "
                "--reasoning-parser and without enable_in_reasoning, use reasoning_mode explicit "
                "without min_answer_tokens, or leave it out",
            )

    def _check_room(self, params: RoutingParams, max_tokens: int | None) -> None:
        fits, (what, instead, flag) = self.max_tokens(params), _room(params)
        if params.mixes_all and not self.ledger_vectors:
            remedy = "needs room for its vectors; use top_n, or start the server with " + flag
            raise InvalidValueError("routing.mix", params.mix, remedy)
        if (max_tokens or 0) > fits:
            raise InvalidValueError(
                "max_tokens",
                max_tokens,
                f"is more than the {fits} tokens that the ledger holds at {what}; "
                f"lower it, {instead}, or raise {flag}",
            )

    def _check_answer(self, kept: int | None, max_tokens: int | None) -> None:
        if kept and max_tokens is not None and kept + self.num_end_tokens > max_tokens:
            raise InvalidValueError(
                "routing.min_answer_tokens",
                kept,
                f"and the {self.num_end_tokens} that end thinking are more than max_tokens, "
                f"{max_tokens}; lower it or raise max_tokens",
            )


def _room(params: RoutingParams) -> tuple[str, str, str]:
    """What limits a request in the ledger, what may be done about it, and the flag."""
    at = f"routing.top_n {params.top_n}"
    if params.mixes_all:
        return "routing.mix full", "use top_n", "--vector-ledger-gib"
    if params.is_soft_capable:
        return at, "lower routing.top_n", "--ledger-gib"
    extra = "include_reasoning_trace" if params.trace else "routing.min_answer_tokens"
    return at, f"leave out {extra}", "--ledger-gib"


def _lacks_prompt_embeds() -> bool:
    import vllm.triton_utils

    return isinstance(vllm.triton_utils.triton, CpuTriton)
