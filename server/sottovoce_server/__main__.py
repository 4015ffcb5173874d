"""The `sottovoce` command."""

from __future__ import annotations

import gc
import importlib
import os
import sys

# By default Python looks for unreachable cycles after every 700 new objects. Imports make a million,
# all of which stay: that was a sixth of their time. A spawned engine runs this module first, too.
gc.set_threshold(50_000, 10, 10)


def _serve(argv: list[str]) -> None:
    from .cli import serve

    serve(argv)


def _tune(argv: list[str]) -> None:
    # The harness is a part of the checkout, above every package: nothing here may depend on it.
    try:
        tune = importlib.import_module("benchmarks.quality.tune")
    except ModuleNotFoundError as error:
        sys.exit(f"sottovoce tune: {error}; install the extra `bench` in a checkout")
    tune.main(argv[1:])


def _chat(argv: list[str]) -> None:
    from sottovoce_client.chat import main

    main(argv[1:], os.environ)


def _explain(argv: list[str]) -> None:
    from sottovoce_client.explain import main

    main(argv[1:], os.environ)


def _plan(argv: list[str]) -> None:
    from .plan import main

    main(argv[1:])


def _convert(argv: list[str]) -> None:
    from .convert import main

    main(argv[1:])


COMMANDS = {
    "tune": _tune,
    "chat": _chat,
    "explain": _explain,
    "plan": _plan,
    "convert": _convert,
}


def main() -> None:
    """Dispatch on the subcommand; heavy imports wait until one is known."""
    argv = sys.argv[1:]
    command = COMMANDS.get(argv[0], _serve) if argv else _serve
    command(argv)


if __name__ == "__main__":
    main()
