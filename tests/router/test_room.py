"""The room of a request in the ledger, where its mixtures are of the whole vocabulary."""

from __future__ import annotations

import dataclasses

import pytest
from admitting import SOFT, admitted, engine, stamp_of

from sottovoce_router import Capabilities, InvalidValueError

FULL = {"reasoning_mode": "routed", "routing": {"policy": "swi", "mix": "full"}}


def test_mixtures_of_all_tokens_need_vectors() -> None:
    some = dataclasses.replace(SOFT, ledger_vectors=60)
    assert stamp_of(admitted(FULL, some))["params"]["mix"] == "full"
    assert admitted(FULL, some, max_tokens=None).max_tokens == 15, "others find room, too"
    assert admitted(FULL, some, max_tokens=60).max_tokens == 60
    with pytest.raises(InvalidValueError) as caught:
        admitted(FULL, some, max_tokens=61)
    assert caught.value.remedy == (
        "is more than the 60 tokens that the ledger holds at routing.mix full; lower it, use top_n, "
        "or raise --vector-ledger-gib"
    )
    for max_tokens in (50, None):
        with pytest.raises(InvalidValueError, match=r"routing\.mix: 'full' needs room for its"):
            admitted(FULL, SOFT, max_tokens=max_tokens)


def test_the_stamp_tells_what_a_request_holds() -> None:
    sized = dataclasses.replace(SOFT, ledger_vectors=60, row_bytes=1000, vector_bytes=10)
    assert stamp_of(admitted(FULL, sized, max_tokens=20))["ledger_bytes"] == 1200
    assert stamp_of(admitted({"reasoning_mode": "latent"}, sized))["ledger_bytes"] == 1000


def test_the_vectors_take_their_own_memory() -> None:
    """Of the model's type, and never more than the context of all rows."""
    size = {"sottovoce": {"vector_ledger_gib": 2**-20}}  # 1 KiB
    some = Capabilities.from_config(engine(additional_config=size))
    assert (some.ledger_vectors, some.vector_bytes) == (1024 // 16, 16)
    none = Capabilities.from_config(
        engine(additional_config={"sottovoce": {"vector_ledger_gib": 0}})
    )
    assert none.ledger_vectors == 0
    assert some.ledger_bytes - none.ledger_bytes == 1024
    assert none.ledger_bytes == 2 * 8 * none.row_bytes
    whole = Capabilities.from_config(engine())
    assert whole.ledger_vectors == 2 * 8 * whole.max_model_len
    assert (
        Capabilities.from_config(engine(data_parallel_size=3)).ledger_bytes
        == 3 * whole.ledger_bytes
    )
    assert Capabilities.from_config(engine(reasoning_config=None)).ledger_bytes == 0
