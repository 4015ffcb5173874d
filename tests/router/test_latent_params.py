"""`latent` in a request, and the manifest that completes it: what is read, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce_router import RoutingParams, parse
from sottovoce_router.errors import RoutingError
from sottovoce_router.latent.manifest import FORMAT, Manifest, read_manifest
from sottovoce_router.latent.params import LatentParams

CODI = Manifest("codi", 6, None, 12, 32, "<bot>", "<eot>")
ATP = Manifest("atp", 6, 2, 20, 32, "<bot>", "<eot>")


def read(manifest: Manifest | None = CODI, **request: Any) -> RoutingParams:
    return parse(request, latent=manifest)


@pytest.mark.parametrize(
    ("request_", "manifest", "steps"),
    [
        ({"reasoning_mode": "latent"}, CODI, 6),
        ({"reasoning_mode": "latent"}, ATP, 20),
        ({"latent": {}}, CODI, 6),
        ({"latent": {"steps": None}}, CODI, 6),
        ({"latent": {"steps": 1}}, CODI, 1),
        ({"latent": '{"steps": 12}', "reasoning_mode": "latent"}, CODI, 12),
        ({"latent": {"steps": 3}}, ATP, 3),
    ],
)
def test_what_is_asked_for(request_: dict[str, Any], manifest: Manifest, steps: int) -> None:
    params = parse(request_, latent=manifest)
    assert params.latent == LatentParams(manifest.method, steps)
    assert (params.mode, params.policy, params.is_soft_capable) == ("latent", None, False)
    assert (params.needs_plugin, params.method) == (True, manifest.method)
    assert RoutingParams.from_dict(json.loads(json.dumps(params.as_dict()))) == params


def test_other_requests_are_as_ever() -> None:
    for request in (
        {},
        {"reasoning_mode": "explicit", "include_reasoning_trace": True},
        {"reasoning_mode": "routed", "routing": {"threshold": 0.5}},
        {"reasoning_mode": "latent", "routing": {"policy": "soft"}},
    ):
        params = parse(request, latent=CODI)
        assert params == parse(request)
        assert params.latent is None
    assert parse({"reasoning_mode": "latent"}).policy == "soft"


def test_a_traced_request_is_observed() -> None:
    params = read(reasoning_mode="latent", include_reasoning_trace=True)
    assert (params.policy, params.trace, params.method) == ("observe", True, "codi")


@pytest.mark.parametrize(
    ("request_", "param", "value", "remedy"),
    [
        *(
            ({"latent": {"steps": bad}}, "latent.steps", bad, "must be an integer from 1 to 12")
            for bad in (-1, 0, 13, 2.0, "2", True, [2])
        ),
        *(({"latent": bad}, "latent", bad, "must be an object") for bad in ([], 0, False)),
        ({"latent": "{"}, "latent", "{", "must be a JSON object"),
        ({"latent": {"depth": 1}}, "latent.depth", "depth", "use one of ['steps']"),
        ({"latent": {}, "reasoning_mode": "routed"}, "reasoning_mode", "routed", "use latent, or"),
        ({"latent": {}, "reasoning_mode": "explicit"}, "reasoning_mode", "explicit", "use latent"),
        ({"latent": {}, "reasoning_mode": "fast"}, "reasoning_mode", "fast", "must be one of"),
        (
            {"latent": {}, "routing": {"policy": "soft"}},
            "routing", {"policy": "soft"}, "leave out one of them",
        ),
        (
            {"reasoning_mode": "latent", "routing": {"top_n": 3}},
            "routing", {"top_n": 3}, "name a policy, or leave it out",
        ),
        ({"latent": {}, "shortcuts": {}}, "shortcuts", {}, "needs a model with shortcut weights"),
    ],
)  # fmt: skip
def test_refusals(request_: dict[str, Any], param: str, value: Any, remedy: str) -> None:
    with pytest.raises(RoutingError) as caught:
        parse(request_, latent=CODI)
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param}: {value!r} ")
    assert remedy in caught.value.remedy


def test_other_models_have_no_such_steps() -> None:
    with pytest.raises(RoutingError, match=r"latent: \{'steps': 2\} needs a latent-trained model"):
        read(None, latent={"steps": 2})


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    ATP.write(tmp_path)
    assert read_manifest(str(tmp_path)) == ATP
    assert read_manifest(str(tmp_path / "elsewhere")) is None
    assert ATP.as_card() == {"method": "atp", "steps": 20, "max_steps": 20}
    assert CODI.as_card() == {"method": "codi", "steps": 6, "max_steps": 12}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "cot"}, "must be one of"),
        ({"steps": 0}, "from 1 to 64"),
        ({"steps": 21}, "at most max_steps"),
        ({"max_steps": 65}, "from 1 to 64"),
        ({"stride": None}, "1 or more for atp"),
        ({"stride": 0}, "1 or more for atp"),
        ({"method": "coconut"}, "else null"),
        ({"end": ""}, "the texts of the markers"),
        ({"format": 2}, "format is not 1"),
        ({"heads": 1}, "heads"),
    ],
)
def test_a_manifest_that_says_nonsense(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "latent").mkdir()
    found = {"format": FORMAT, **dataclasses.asdict(ATP), **change}
    (tmp_path / "latent" / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=says) as caught:
        read_manifest(str(tmp_path))
    assert "manifest.json" in str(caught.value)
    assert "convert the model again" in str(caught.value)
