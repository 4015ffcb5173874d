"""A model's routing defaults: where they are found, what is refused, what a request still decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce_router import Capabilities, parse, parse_routing
from sottovoce_server.defaults import FILE_NAME, defaults_path, read_defaults
from sottovoce_server.translate import translate

ROUTING = {"threshold": 0.45, "cold_stop": {"steps": 32}}
CAPABILITIES = Capabilities(refusal=None, ledger_entries=1, ledger_positions=1, max_model_len=1)


def write(folder: Path, content: Any) -> str:
    path = folder / FILE_NAME
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_file_beside_the_weights_is_found(tmp_path: Path) -> None:
    assert defaults_path("", str(tmp_path)) == ""
    path = write(tmp_path, {"routing": ROUTING})
    assert defaults_path("", str(tmp_path)) == path
    assert defaults_path("other.json", str(tmp_path)) == "other.json"
    assert read_defaults(path) == ROUTING
    assert read_defaults("") == {}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "Expecting"),
        ({"threshold": 0.5}, "routing"),
        ([], "routing"),
        ({"routing": [1]}, "must be an object"),
        ({"routing": {"threshold": 2}}, "(0, 1]"),
        ({"routing": {"tau": 0.5}}, "is unknown"),
        ({"routing": {"policy": "random"}}, "leave it out"),
    ],
    ids=str,
)
def test_a_wrong_file_is_named(tmp_path: Path, content: Any, word: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match="--routing-defaults") as caught:
        read_defaults(path)
    assert path in str(caught.value)
    assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json.*sottovoce tune"):
        read_defaults(str(tmp_path / "none.json"))


def effective(body: dict[str, Any]) -> dict[str, Any]:
    """What the plugin makes of a request after the server's part."""
    found = translate(body, "chat", CAPABILITIES, {}, "explicit", parse_routing(ROUTING))
    params = parse(found.body.get("vllm_xargs", {}))
    assert params == found.params
    return params.as_routing()


def test_a_request_decides_over_the_defaults() -> None:
    silent = effective({"reasoning_mode": "routed"})
    assert (silent["threshold"], silent["cold_stop"]["steps"]) == (0.45, 32)
    spoken = effective({"reasoning_mode": "routed", "routing": {"threshold": 0.9}})
    assert (spoken["threshold"], spoken["cold_stop"]["steps"]) == (0.9, 32)
    off = effective({"reasoning_mode": "latent", "routing": {"cold_stop": None}})
    assert (off["policy"], off["cold_stop"]["steps"]) == ("soft", 0)
    written = effective({"reasoning_mode": "routed", "routing": '{"policy": "adaptive_greedy"}'})
    assert (written["policy"], written["threshold"]) == ("adaptive_greedy", 0.45)


def test_explicit_requests_have_none() -> None:
    found = translate({}, "chat", CAPABILITIES, {}, "explicit", parse_routing(ROUTING))
    assert "vllm_xargs" not in found.body
