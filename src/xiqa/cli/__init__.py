"""The command line for physicists who want their contrast-detail curve, and images to try it on: `xiqa --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import xiqa
from xiqa.cli import compare, read, simulate, trend
from xiqa.cli.simulate import SCENARIOS

__all__ = ["SCENARIOS", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the entry point `xiqa`.

    Args:
        arguments: words after the program's name; those of the process where None.

    Returns:
        The exit code: 0, 1 after an error that was said on stderr, or another one that the verb's help explains.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        print(f"xiqa: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xiqa", description="Image quality of mammography from the CDMAM 3.4 phantom."
    )
    parser.add_argument("--version", action="version", version=f"xiqa {xiqa.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb in (read, compare, trend, simulate):
        verb.add_parser(commands)
    return parser
