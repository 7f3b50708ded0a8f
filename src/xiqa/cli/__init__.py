"""The command line for physicists who want their contrast-detail curve, and images to try it on: `xiqa --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xiqa.cli import read, simulate
from xiqa.cli.simulate import SCENARIOS

__all__ = ["SCENARIOS", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the entry point `xiqa`.

    Args:
        arguments: words after the program's name; those of the process where None.

    Returns:
        The exit code: 0, or 1 after an error that was said on stderr.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"xiqa: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xiqa", description="Image quality of mammography from the CDMAM 3.4 phantom."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb in (read, simulate):
        verb.add_parser(commands)
    return parser
