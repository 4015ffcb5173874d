"""`shortcuts` in a request: what the manifest completes, and what each refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce_router import RoutingParams, parse
from sottovoce_router.errors import RoutingError
from sottovoce_router.shortcuts.manifest import MANIFEST, Manifest, read_manifest
from sottovoce_router.shortcuts.params import ShortcutParams
from sottovoce_training.shortcuts import weights
from sottovoce_training.shortcuts.modules import Sizes, Variant

MANY = Manifest(Path(), 2, 0.6, (0, 1, 2), True, True, 3, 32, 8, 8, 1e-6)
STEPS = "must be an integer from 0 to 64"


def read(**request: Any) -> RoutingParams:
    return parse(request, manifest=MANY)


@pytest.mark.parametrize(
    ("given", "mode", "want", "effective"),
    [
        ({}, None, (0.6, 2), "latent"),
        ({"depth": None}, None, (None, 2), "latent"),
        ({"steps": None}, None, (0.6, 0), "explicit"),
        ({"steps": 0, "depth": 1}, None, (1.0, 0), "explicit"),
        ({"depth": 0}, "explicit", (0.0, 0), "explicit"),
        ({"steps": 0}, "explicit", (0.6, 0), "explicit"),
        ({"steps": 64}, "latent", (0.6, 64), "latent"),
        ({}, "latent", (0.6, 2), "latent"),
    ],
)
@pytest.mark.parametrize("is_text", [False, True])
def test_what_is_asked_for(
    given: dict[str, Any], mode: str | None, want: tuple[Any, int], effective: str, is_text: bool
) -> None:
    """As an object, or as the JSON string of plain vLLM."""
    shortcuts: Any = json.dumps(given) if is_text else given
    params = read(shortcuts=shortcuts, reasoning_mode=mode)
    assert params.shortcuts == ShortcutParams(*want)
    assert (params.mode, params.policy, params.is_soft_capable) == (effective, None, False)
    assert RoutingParams.from_dict(json.loads(json.dumps(params.as_dict()))) == params


def test_a_traced_request_is_observed() -> None:
    params = read(shortcuts={}, include_reasoning_trace=True)
    assert (params.policy, params.trace) == ("observe", True)


@pytest.mark.parametrize(
    ("request_", "param", "value", "remedy"),
    [
        *(
            ({"shortcuts": {"steps": bad}}, "shortcuts.steps", bad, STEPS)
            for bad in (-1, 65, 2.0, "2", True, [2])
        ),
        *(
            ({"shortcuts": {"depth": bad}}, "shortcuts.depth", bad, "must be a number from 0 to 1")
            for bad in (-0.1, 1.1, "0.5", True, float("nan"), {})
        ),
        *(
            ({"shortcuts": bad}, "shortcuts", bad, "must be an object")
            for bad in ([], 0, False)
        ),
        ({"shortcuts": "{"}, "shortcuts", "{", "must be a JSON object"),
        (
            {"shortcuts": {"layers": 1}},
            "shortcuts.layers", "layers", "use one of ['depth', 'steps']",
        ),
        (
            {"shortcuts": {"steps": 3}, "reasoning_mode": "explicit"},
            "shortcuts.steps", 3, "send 0, or leave the mode out",
        ),
        (
            {"shortcuts": {"steps": 0}, "reasoning_mode": "latent"},
            "shortcuts.steps", 0, "must be from 1 to 64",
        ),
        (
            {"shortcuts": {}, "reasoning_mode": "routed"},
            "reasoning_mode", "routed", "use explicit or latent",
        ),
        ({"shortcuts": {}, "reasoning_mode": "fast"}, "reasoning_mode", "fast", "must be one of"),
        (
            {"shortcuts": {}, "routing": {"min_answer_tokens": 1}},
            "routing", {"min_answer_tokens": 1}, "leave out one of them",
        ),
    ],
)  # fmt: skip
def test_refusals(request_: dict[str, Any], param: str, value: Any, remedy: str) -> None:
    with pytest.raises(RoutingError) as caught:
        parse(request_, manifest=MANY)
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param}: {value!r} ")
    assert remedy in caught.value.remedy


def test_the_trainers_manifest_is_read(tmp_path: Path) -> None:
    """Every field of it, as training writes them."""
    written = weights.Manifest(Sizes(3, 32, 8, 4), Variant(step=False), 3, 0.25, (0, 3))
    (tmp_path / "shortcuts").mkdir()
    path = tmp_path / "shortcuts" / MANIFEST
    path.write_text(json.dumps(written.to_json()))
    assert read_manifest(str(tmp_path)) == Manifest(
        path.parent, 3, 0.25, (0, 3), True, False, 3, 32, 8, 4, 1e-6
    )
    assert read_manifest(str(tmp_path / "elsewhere")) is None


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shortcuts").mkdir()
    (tmp_path / "shortcuts" / MANIFEST).write_text('{"format": 2}')
    with pytest.raises(ValueError, match="format 2 is not 1; export again"):
        read_manifest(str(tmp_path))
