"""The command line for physicists who want their contrast-detail curve, and images to try it on: `xiqa --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import xiqa
from xiqa.cli.common import VERBS
from xiqa.extras import told

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the entry point `xiqa`.

    Args:
        arguments: words after the program's name; those of the process where None.

    Returns:
        The exit code: 0, 1 after an error that was said on stderr, or another one that the verb's help explains.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with told():
            options = _parser(words).parse_args(words)
            return options.run(options) or 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"xiqa: error: {error}", file=sys.stderr)
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """All verbs are listed; only the module of the one that is given is loaded, which takes seconds."""
    parser = argparse.ArgumentParser(
        prog="xiqa", description="Image quality of mammography from the CDMAM 3.4 and 4.0 phantoms."
    )
    parser.add_argument("--version", action="version", version=f"xiqa {xiqa.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, does in VERBS.items():
        if verb in words[:1]:
            import_module(f"xiqa.cli.{verb.replace('-', '_')}").add_parser(commands)
        else:
            commands.add_parser(verb, help=does)
    return parser
