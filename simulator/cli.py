"""The command `vouch-sim`: parses, calls, prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from edge.errors import VouchError

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A VouchError is printed with what to do, and gives 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command = options.run
    try:
        return command(options)
    except VouchError as error:
        print(f"vouch-sim: {error.diagnostics()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vouch-sim", description="The desktop simulator of Vouch.")
    parser.add_subparsers(required=True, metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
