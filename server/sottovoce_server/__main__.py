"""The `sottovoce` command."""

import sys


def main() -> None:
    """Dispatch on the subcommand; heavy imports wait until one is known."""
    from .cli import serve

    serve(sys.argv[1:])


if __name__ == "__main__":
    main()
