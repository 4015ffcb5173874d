"""`sottovoce serve`: vLLM's own serve command with our flags, our middleware and our defaults."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from sottovoce_router.latent.manifest import read_manifest

from .defaults import defaults_path, read_defaults
from .settings import ServerSettings, add_flags

GATEWAY = "sottovoce_server.gateway.Gateway"
_CPU_KV_GIB = "2"
_STOP_GRACE_S = 10


def set_cpu_defaults() -> None:
    """Use every core and a KV cache of fixed size; vLLM's own variables override both."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    # vLLM keeps one core for its other processes, which leaves half of a two-core machine idle.
    if not {"VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU"} & os.environ.keys():
        os.environ["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_GIB)


def cpu_dtype(dtype: str) -> str:
    """float32 for `auto` on an x86 CPU without bfloat16 units.

    Seen on an AMD EPYC with AVX2 only: 32 concurrent requests ran 4.5 times as fast in float32 as in
    bfloat16, a prompt of 4,096 tokens 7 times, a single request 0.6 times.
    """
    import torch
    from vllm.platforms import CpuArchEnum, current_platform

    is_x86 = current_platform.get_cpu_architecture() == CpuArchEnum.X86
    if dtype != "auto" or not current_platform.is_cpu() or not is_x86:
        return dtype
    return dtype if torch.cpu._is_avx512_bf16_supported() else "float32"


def build_parser() -> argparse.ArgumentParser:
    """The parser of `sottovoce`, with every flag of `vllm serve` under `serve`."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser: argparse.ArgumentParser = FlexibleArgumentParser(prog="sottovoce", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    usage = "sottovoce serve MODEL [options]"
    serve = commands.add_parser("serve", help="start the server", usage=usage)
    commands.add_parser("tune", help="choose a model's routing defaults on a few problems")
    commands.add_parser("chat", help="talk to a server on the terminal")
    commands.add_parser("explain", help="print the thinking of one request as a table")
    commands.add_parser("plan", help="the GPUs that a model and a load take")
    commands.add_parser("convert", help="turn a latent-thinking checkpoint into a model directory")
    make_arg_parser(serve)
    add_flags(serve)
    return parser


def _apply_reasoning_markers(args: argparse.Namespace, settings: ServerSettings) -> None:
    """Those of the flags, else those that a latent-trained model brings along."""
    markers = settings.reasoning_start, settings.reasoning_end
    is_left_open = not (settings.reasoning_start or args.reasoning_parser or args.reasoning_config)
    manifest = read_manifest(str(args.model)) if is_left_open else None
    if manifest is not None:
        markers = manifest.start, manifest.end
    if not markers[0]:
        return
    from vllm.config.reasoning import ReasoningConfig

    args.reasoning_config = ReasoningConfig(
        reasoning_start_str=markers[0], reasoning_end_str=markers[1]
    )


def _find_routing_defaults(args: argparse.Namespace) -> None:
    """Leave the file's path in the flag, for the API servers, and report what it holds."""
    args.routing_defaults = defaults_path(args.routing_defaults, args.model)
    defaults = read_defaults(args.routing_defaults)
    if defaults:
        print(f"sottovoce: routing defaults {defaults} from {args.routing_defaults}", flush=True)


def _hand_to_plugin(args: argparse.Namespace, settings: ServerSettings) -> None:
    others = args.additional_config or {}
    keys = ("ledger_gib", "vector_ledger_gib", "min_answer_tokens")
    ours = {**{key: getattr(settings, key) for key in keys}, **others.get("sottovoce", {})}
    args.additional_config = {**others, "sottovoce": ours}


def prepare(argv: list[str]) -> argparse.Namespace:
    """Parse and complete the arguments, without starting anything."""
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    from .models import resolve

    args: Any = build_parser().parse_args(resolve(argv))
    if getattr(args, "model_tag", None) is not None:
        args.model = args.model_tag
    try:
        settings = ServerSettings.from_args(args)
        _find_routing_defaults(args)
        _apply_reasoning_markers(args, settings)
    except ValueError as error:
        sys.exit(f"sottovoce: {error}")
    args.middleware = [*args.middleware, GATEWAY]
    args.enable_request_id_headers = True
    # vLLM kills API servers and engines that outlive this; 0 would abort what drain.py waits for.
    args.shutdown_timeout = args.shutdown_timeout or settings.drain_timeout_s + _STOP_GRACE_S
    args.dtype = cpu_dtype(args.dtype)
    _hand_to_plugin(args, settings)
    validate_parsed_serve_args(args)
    return args  # type: ignore[no-any-return]


def serve(argv: list[str]) -> None:
    """Run the server until it is told to stop."""
    set_cpu_defaults()
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args

    cli_env_setup()
    args = prepare(argv)
    configure_logging_from_args(args)
    ServeSubcommand.cmd(args)
