"""What the routing ops share: the tensors of a slot, the ledger, the markers, and their codes.

A slot is a row of the engine's running batch; a ledger row is a request's and outlives its slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch

MAX_TOP_N = 32  # components of one mixture, and the width of every candidate list
MAX_TERMS = MAX_TOP_N + 1  # what a step feeds: the mixture, and a token of the policy's own
MAX_STOP_IDS = 32  # stop ids of one request that the kernels compare with
NEVER = 2**31 - 1
MAX_LOGIT = 1.0e30  # a logit above it, such as +inf, reads as it
FORCED_LOGIT = 5.0e8  # vLLM's thinking budget forces a token by writing 1e9 into its logit


class Policy(IntEnum):
    """Who decides whether a thinking step is soft; `NONE` marks a slot that never is."""

    NONE = 0
    SOFT = 1
    THINKROUTER = 2
    RANDOM = 3
    ADAPTIVE_GREEDY = 4
    OBSERVE = 5  # never soft: the record of an explicit request
    STOCHASTIC = 6
    MOI = 7
    SELAR = 8
    SWI = 9


class Phase(IntEnum):
    """Where a request stands: before its reasoning start marker, inside, or past the end marker.

    In OVER, an answer too, no policy has a say.
    """

    BEFORE = 0
    THINK = 1
    ANSWER = 2
    OVER = 3


class Route(IntEnum):
    """What a step did; `NONE` is a step outside the thinking phase."""

    NONE = 0
    SOFT = 1
    DISCRETE = 2
    FORCED = 3
    LATENT = 4  # a step fed by a vector of the model's own, which `decide` knows nothing of


class Cause(IntEnum):
    """What forced an end of thinking; `NONE` in a step that forces nothing, or goes on with it."""

    NONE = 0
    BUDGET = 1  # vLLM's thinking budget
    COLD_STOP = 2
    SWITCH_BUDGET = 3
    MIN_ANSWER = 4


class IntParam(IntEnum):
    """Columns of `Slots.ints`."""

    POLICY = 0
    TOP_N = 1
    TOP_K = 2  # 0: off
    RAW_CONFIDENCE = 3  # 1: p_max of softmax(z), 0: of softmax(z / T)
    COLD_STEPS = 4  # 0: Cold Stop is off
    LEDGER_ROW = 5
    PROMPT_LEN = 6
    NUM_STOP_IDS = 7
    WIDTH = 8  # entries of a ledger position: TOP_N, and one for a term of the policy's own, or 1
    CLOSE_AT = 9  # the generated position from which on thinking is forced to end; NEVER: off
    MAX_TOKENS = 10
    WINDOW = 11  # steps in discrete before a switch back
    SWITCH_BUDGET = 12  # 0: off
    VECTOR_ROW = 13  # the first of the ledger's vectors; -1: the mixture is of TOP_N components
    ALL_PHASES = 14  # 1: soft before thinking and in the answer too


class FloatParam(IntEnum):
    """Columns of `Slots.floats`."""

    THRESHOLD = 0
    TEMPERATURE = 1
    TOP_P = 2
    MIN_P = 3
    COLD_ENTROPY = 4  # nats
    SOFT_SHARE = 5
    GUMBEL_TEMPERATURE = 6
    BETA = 7
    ENTROPY_THRESHOLD = 8  # of the entropy of the best TOP_N candidates over its maximum
    PUSH_OFF = 9
    ENTER_BLEND = 10
    EXIT_BLEND = 11


class State(IntEnum):
    """Columns of `Slots.state` and `Ledger.state`."""

    PHASE = 0
    COLD_COUNT = 1  # consecutive steps with an entropy below COLD_ENTROPY
    FORCING = 2  # how many tokens of what ends thinking have been forced so far
    REFERENCE = 3  # swi: the entropy at the last switch, a float32's bits
    STAY = 4  # swi: steps since then, negative while soft; 0 before the first step
    SWITCHES = 5  # swi: from soft to discrete


NUM_INT_PARAMS = len(IntParam)
NUM_FLOAT_PARAMS = len(FloatParam)
NUM_STATE = len(State)
RECORD_EXTRA = 3  # columns of a record besides its alternatives: route, entropy, end mark


@dataclass(frozen=True)
class Slots:
    """Parameters and state of every slot, on the device."""

    ints: torch.Tensor  # int32 [max_num_reqs, NUM_INT_PARAMS]
    floats: torch.Tensor  # float32 [max_num_reqs, NUM_FLOAT_PARAMS]
    stop_ids: torch.Tensor  # int32 [max_num_reqs, MAX_STOP_IDS]
    state: torch.Tensor  # int32 [max_num_reqs, NUM_STATE], updated in place


@dataclass(frozen=True)
class LedgerTensors:
    """Every soft input of every live request: position g of a row has its entries at g * WIDTH.

    A count says how many entries are mixed; 0: the input is the recorded token; -1: it is the
    mixture of the whole vocabulary, vector VECTOR_ROW + g, with the weight that the one entry leaves.
    """

    ids: torch.Tensor  # int32 [rows, entries]
    weights: torch.Tensor  # float32 [rows, entries]
    counts: torch.Tensor  # int32 [rows, positions]
    state: torch.Tensor  # int32 [rows, positions, NUM_STATE], the state after the step
    vectors: torch.Tensor  # [vectors + 1, hidden], this rank's part; the last row is never read


@dataclass(frozen=True)
class Markers:
    """Token ids that delimit thinking, and the ids that are never mixed."""

    start: torch.Tensor  # int32 [s]
    end: torch.Tensor  # int32 [e], what is written to force an end
    natural_end: torch.Tensor  # int32 [n], what is recognised as an end
    special: torch.Tensor  # uint8 [vocab_size], 1: a special token
    final: torch.Tensor  # int32 [f], `end` and a final-answer phrase


@dataclass(frozen=True)
class Confidence:
    """Per row: sums relative to its maximum m, and its candidates.

    With x = (z - m) / T: sum_mix = sum exp(x), sum_xmix = sum x exp(x), sum_raw = sum exp(z - m),
    and 0 where the slot does not ask for the raw confidence. Of the candidates the slot's top_n are
    sure to be there.
    """

    top_logits: torch.Tensor  # float32 [B, MAX_TOP_N], descending, -inf where exhausted
    top_ids: torch.Tensor  # int32 [B, MAX_TOP_N]
    sum_raw: torch.Tensor  # float32 [B]
    sum_mix: torch.Tensor  # float32 [B]
    sum_xmix: torch.Tensor  # float32 [B]

    @classmethod
    def empty(cls, num_rows: int, device: torch.device) -> Confidence:
        """Uninitialised tensors for `num_rows` rows."""
        wide = (num_rows, MAX_TOP_N)
        return cls(
            top_logits=torch.empty(wide, dtype=torch.float32, device=device),
            top_ids=torch.empty(wide, dtype=torch.int32, device=device),
            sum_raw=torch.empty(num_rows, dtype=torch.float32, device=device),
            sum_mix=torch.empty(num_rows, dtype=torch.float32, device=device),
            sum_xmix=torch.empty(num_rows, dtype=torch.float32, device=device),
        )


@dataclass(frozen=True)
class Record:
    """What a step did, in the shape of vLLM's log-probability rows, to ride beside them.

    Column 0: route + 8 * number of alternatives, p_max. Column 1: cause, + 8 at the first step in a
    slot, of a request that came or came back, + 16 * the layers skipped by the position whose
    logits these are; entropy in nats. Then the alternatives: id, weight. Then, if a row of the batch
    has any, ids of the text that a latent step is read as, -1 past its end. Last column: minus the
    number of columns (no real id is negative), and the columns of text that are this row's, 0 if none.
    """

    ids: torch.Tensor  # int64 [B, RECORD_EXTRA + trace width]
    values: torch.Tensor  # float32 [B, RECORD_EXTRA + trace width]

    @classmethod
    def empty(cls, num_rows: int, trace_width: int, device: torch.device) -> Record:
        """A zeroed record with room for `trace_width` alternatives a row."""
        shape = (num_rows, RECORD_EXTRA + trace_width)
        return cls(
            ids=torch.zeros(shape, dtype=torch.int64, device=device),
            values=torch.zeros(shape, dtype=torch.float32, device=device),
        )
