"""The command line: all of `vllm serve`, our flags, and what becomes of them."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sottovoce_router import REQUEST_KEYS
from sottovoce_router.latent.manifest import Manifest
from sottovoce_router.policies import POLICIES
from sottovoce_server import settings as settings_module
from sottovoce_server.capacity import Load, plan
from sottovoce_server.model_size import read_model
from sottovoce_server.plan import flags
from sottovoce_server.settings import ServerSettings, add_flags

# Parsing needs vLLM, which this process must not import: one other process parses every line.
_PARSE = """
import contextlib, io, json, os, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from sottovoce_server import cli

SHOWN = ("model", "port", "api_key", "max_model_len", "middleware", "enable_request_id_headers",
         "default_reasoning_mode", "max_queue", "max_body_bytes", "drain_timeout_s", "ledger_gib",
         "control_fraction", "shutdown_timeout", "additional_config", "served_model_name", "routing_defaults")

def parse(argv):
    errors, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(said):
            args = cli.prepare(argv)
    except SystemExit as exit:
        return {"error": f"{exit.code}\\n{errors.getvalue()}"}
    reasoning = args.reasoning_config
    markers = reasoning and [reasoning.reasoning_start_str, reasoning.reasoning_end_str]
    shown = {name: getattr(args, name) for name in SHOWN}
    return {**shown, "markers": markers, "said": said.getvalue()}

def cpu_defaults(env):
    for name in NAMES:
        os.environ.pop(name, None)
    os.environ.update(env)
    cli.set_cpu_defaults()
    return {name: os.environ.get(name) for name in NAMES}

NAMES = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_KVCACHE_SPACE")
lines, envs = json.loads(sys.argv[1])
theirs = make_arg_parser(FlexibleArgumentParser())
serve = next(a for a in cli.build_parser()._actions if a.dest == "command").choices["serve"]
missing = {o for a in theirs._actions for o in a.option_strings} - set(serve._option_string_actions)
result = {"missing": sorted(missing), "parsed": [parse(line) for line in lines],
          "env": [cpu_defaults(env) for env in envs]}
print("RESULT" + json.dumps(result))
"""

BARE = ["serve", "org/model"]
_LOAD = Load(gpu_gib=80, context=4096, concurrency=8, dtype="fp8", kv_cache_dtype="fp8")
PLANNED = plan(read_model("Qwen3-8B"), _LOAD)
README = Path(settings_module.__file__).parents[1] / "README.md"
LINES: dict[str, list[str]] = {
    "bare": BARE,
    "vllms": [*BARE, "--port", "9", "--max-model-len", "4k", "--api-key", "a", "b"],
    "ours": [
        *BARE, "--default-reasoning-mode", "routed", "--max-queue", "5", "--max-body-bytes", "6",
        "--drain-timeout-s", "7", "--ledger-gib", "0.5",
    ],
    "control": [*BARE, "--default-reasoning-mode", "latent", "--control-fraction", "0.25"],
    "control of explicit": [*BARE, "--control-fraction", "0.25"],
    "bad control": [*BARE, "--control-fraction", "1.5"],
    "markers": [*BARE, "--reasoning-start", "<a>", "--reasoning-end", "</a>"],
    "half a marker": [*BARE, "--reasoning-start", "<a>"],
    "other half": [*BARE, "--reasoning-end", "</a>"],
    "bad mode": [*BARE, "--default-reasoning-mode", "quiet"],
    "bad queue": [*BARE, "--max-queue", "-1"],
    "bad body": [*BARE, "--max-body-bytes", "0"],
    "bad ledger": [*BARE, "--ledger-gib", "nan"],
    "unknown flag": [*BARE, "--max-que-length", "1"],
    "no command": [],
    "planned": [*BARE, *flags(PLANNED)],
    "own middleware": [*BARE, "--middleware", "a.B", "--shutdown-timeout", "3"],
    "no defaults file": [*BARE, "--routing-defaults", "/no/such.json"],
    "additional": [*BARE, "--additional-config", '{"k": 1, "sottovoce": {"soft_modes": false}}'],
}  # fmt: skip
ENVS: tuple[dict[str, str], ...] = (
    {},
    {"VLLM_CPU_KVCACHE_SPACE": "7"},
    {"VLLM_CPU_OMP_THREADS_BIND": "0-1"},
    {"VLLM_CPU_NUM_OF_RESERVED_CPU": "1"},
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent-trained model's directory with defaults beside the weights."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "sottovoce.json").write_text('{"routing": {"threshold": 0.45}}')
    Manifest("coconut", 4, None, 8, 32, "<bot>", "<eot>").write(folder)
    return folder


@pytest.fixture(scope="module")
def result(tuned: Path) -> Any:
    """What the other process found."""
    serve = ["serve", str(tuned)]
    own = [serve, [*serve, "--reasoning-parser", "deepseek_r1"], [*serve, *LINES["markers"][2:]]]
    given = json.dumps([[*LINES.values(), *own], ENVS])
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, given], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("RESULT")[2])


@pytest.fixture
def parsed(result: Any) -> dict[str, Any]:
    """The namespaces by their line's name."""
    names = [*LINES, "tuned", "tuned, a parser", "tuned, markers"]
    return dict(zip(names, result["parsed"], strict=True))


def test_every_flag_of_vllm_serve_is_there(result: Any) -> None:
    assert result["missing"] == []


def test_defaults(parsed: dict[str, Any]) -> None:
    args, settings = parsed["bare"], ServerSettings()
    for name in ("default_reasoning_mode", "max_queue", "max_body_bytes", "drain_timeout_s"):
        assert args[name] == getattr(settings, name)
    assert args["model"] == "org/model"
    assert args["markers"] is None
    assert args["enable_request_id_headers"]
    assert args["middleware"] == ["sottovoce_server.gateway.Gateway"]


def test_vllms_flags(parsed: dict[str, Any]) -> None:
    args = parsed["vllms"]
    assert (args["port"], args["max_model_len"], args["api_key"]) == (9, 4000, ["a", "b"])


def test_our_flags(parsed: dict[str, Any]) -> None:
    args = parsed["ours"]
    assert (args["control_fraction"], parsed["control"]["control_fraction"]) == (0.0, 0.25)
    assert args["default_reasoning_mode"] == "routed"
    assert (args["max_queue"], args["max_body_bytes"], args["drain_timeout_s"]) == (5, 6, 7)
    assert args["additional_config"] == {
        "sottovoce": {"ledger_gib": 0.5, "vector_ledger_gib": 0.25, "min_answer_tokens": 16}
    }


def test_flags_of_a_plan(parsed: dict[str, Any]) -> None:
    """`sottovoce serve` takes what `sottovoce plan` prints."""
    assert "error" not in parsed["planned"]
    assert parsed["planned"]["max_model_len"] == 4096


def test_the_settings_table() -> None:
    """Every flag of ours is in the README with its default, and no other is."""
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    table = README.read_text().partition("## Settings")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", table, re.MULTILINE)
    shown = {flag: default for flags, default in rows for flag in re.findall(r"--[\w-]+", flags)}
    actions = {action.option_strings[0]: action.default for action in parser._actions}
    assert shown.keys() == actions.keys()
    known = {flag: str(default) for flag, default in actions.items() if default != ""}
    assert {flag: shown[flag].strip("`") for flag in known} == known


def test_the_api_table_has_every_field_of_routing() -> None:
    table = README.read_text().partition("## API")[2].partition("\n\nA key of")[0]
    shown = re.findall(r"`(?:routing\.(\w+)|(\w+))`(?=[^|]*\| )", table)
    names = {routing for routing, _ in shown if routing}
    assert names == {"policy"}.union(*(spec.reads for spec in POLICIES.values()))
    assert {own for _, own in shown} >= set(REQUEST_KEYS) - {"routing"}


def test_routing_defaults_are_found_and_reported(parsed: dict[str, Any], tuned: Path) -> None:
    path = str(tuned / "sottovoce.json")
    assert parsed["tuned"]["routing_defaults"] == path
    assert "{'threshold': 0.45} from " + path in parsed["tuned"]["said"]
    assert (parsed["bare"]["routing_defaults"], parsed["bare"]["said"]) == ("", "")
    assert "--routing-defaults /no/such.json" in parsed["no defaults file"]["error"]


def test_markers(parsed: dict[str, Any]) -> None:
    assert parsed["markers"]["markers"] == ["<a>", "</a>"]
    assert parsed["tuned"]["markers"] == ["<bot>", "<eot>"]
    assert parsed["tuned, a parser"]["markers"] is None
    assert parsed["tuned, markers"]["markers"] == ["<a>", "</a>"]
    for line in ("half a marker", "other half"):
        assert "--reasoning-start and --reasoning-end go together" in parsed[line]["error"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bad mode", ["--default-reasoning-mode", "quiet", "explicit"]),
        ("bad control", ["--control-fraction is 1.5", "0 to 1"]),
        (
            "control of explicit",
            [
                "--control-fraction is 0.25",
                "--default-reasoning-mode is explicit",
                "latent or routed",
            ],
        ),
        ("bad queue", ["--max-queue is -1", "0 or more"]),
        ("bad body", ["--max-body-bytes is 0", "more than 0"]),
        ("bad ledger", ["--ledger-gib is nan", "more than 0"]),
        ("unknown flag", ["--max-que-length"]),
        ("no command", ["command"]),
    ],
)
def test_bad_line(parsed: dict[str, Any], line: str, words: list[str]) -> None:
    assert [word for word in words if word not in parsed[line]["error"]] == []


def test_engine_outlives_the_drain(parsed: dict[str, Any]) -> None:
    """vLLM would kill it at once, and with it what the drain waits for."""
    assert parsed["bare"]["shutdown_timeout"] > parsed["bare"]["drain_timeout_s"]
    assert parsed["own middleware"]["shutdown_timeout"] == 3


def test_middleware_of_the_user_stays_inside(parsed: dict[str, Any]) -> None:
    """vLLM puts the last one outermost."""
    assert parsed["own middleware"]["middleware"] == ["a.B", "sottovoce_server.gateway.Gateway"]


def test_additional_config_is_kept(parsed: dict[str, Any]) -> None:
    ours = {"ledger_gib": 4.0, "vector_ledger_gib": 0.25, "min_answer_tokens": 16}
    expected = {"k": 1, "sottovoce": {**ours, "soft_modes": False}}
    assert parsed["additional"]["additional_config"] == expected


def test_cpu_defaults_can_be_set(result: Any) -> None:
    bind, reserved, space = (
        "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_KVCACHE_SPACE",
    )  # fmt: skip
    bare, roomy, bound, reserving = result["env"]
    if bare[space] is None:
        pytest.skip("not a CPU: nothing is set")
    assert bare == {bind: None, reserved: "0", space: "2"}
    assert roomy == {bind: None, reserved: "0", space: "7"}
    assert bound == {bind: "0-1", reserved: None, space: "2"}
    assert reserving == {bind: None, reserved: "1", space: "2"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("control_fraction", float("nan")),
        ("control_fraction", -0.1),
        ("max_queue", -1),
        ("drain_timeout_s", -1),
        ("max_body_bytes", 0),
        ("ledger_gib", -0.5),
    ],
)
def test_settings_name_the_flag(field: str, value: float) -> None:
    flag = "--" + field.replace("_", "-")
    with pytest.raises(ValueError, match=f"{flag} is {value}; give"):
        ServerSettings(**{field: value})  # type: ignore[arg-type]


def test_a_control_arm_needs_a_mode_to_compare() -> None:
    """With an explicit default, both arms would do the same."""
    with pytest.raises(ValueError, match=r"--control-fraction is 0\.1.* latent or routed"):
        ServerSettings(control_fraction=0.1)
    assert ServerSettings("latent", control_fraction=1.0).control_fraction == 1.0


def test_an_engines_process_collects_garbage_as_rarely_as_the_servers() -> None:
    """It is spawned, and runs the main module anew before it imports all that an engine needs."""
    from scripts import run

    assert run("server/spawned.py") == [[50_000, 10, 10]]
