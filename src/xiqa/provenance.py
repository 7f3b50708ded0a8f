"""Digests that tell when a stage's code or data changed."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent.parent


def code_digest(script: str | Path, modules: Iterable[str] = (), files: Iterable[str | Path] = ()) -> str:
    """Digest a script together with all first-party modules that it imports, however deep.

    What is digested is the syntax tree without comments and docstrings, so that rewording a comment reruns nothing.
    Data tables beside a module (its folder's `tables/`) count as its code. The configuration module does not count:
    its values reach a stage through its parameters, and a new key elsewhere must not rerun this stage.

    Args:
        script: path of a stage's script.
        modules: further modules ("xiqa.saliency.omig") that the script loads by name.
        files: further files, such as the stage's environment, that count byte by byte.

    Returns:
        16 hexadecimal digits.
    """
    closure: dict[str, Path] = {}
    pending = [*_read(Path(script)).imports, *modules]
    while pending:
        name = pending.pop()
        path = _module_path(name)
        if path is None or name in closure or name == "xiqa.config":
            continue
        closure[name] = path
        pending += [*_read(path).imports, *_packages(name)]
    digest = hashlib.sha256(_read(Path(script)).tree.encode())
    for name in sorted(closure):
        digest.update(f"\0{name}\0{_read(closure[name]).tree}".encode())
    tables = {table for path in closure.values() for table in (path.parent / "tables").glob("*.csv")}
    for path in [*sorted(tables), *sorted(Path(file) for file in files)]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class _Source(NamedTuple):
    """What counts of a file: its syntax tree as text, and the first-party modules that it imports anywhere."""

    tree: str
    imports: tuple[str, ...]


@cache
def _read(path: Path) -> _Source:
    """Read a file without its docstrings and comments; imports inside functions are found too."""
    tree, names = ast.parse(path.read_text(encoding="utf-8"), str(path)), []
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{path}: found a relative import, expected full names, for digests")
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:]
    return _Source(ast.dump(tree), tuple(name for name in names if name.split(".")[0] == "xiqa"))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all statements below it: imports and docstrings lie nowhere else, and expressions are many."""
    yield node
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, block, ()):
            yield from _statements(child)


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


@cache
def _module_path(name: str) -> Path | None:
    base = SOURCE.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_commit(folder: str | Path = SOURCE) -> str:
    """The checked-out git commit, with `-dirty` where tracked files differ, or `unknown` outside a repository."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            cwd=folder, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
