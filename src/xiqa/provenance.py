"""Digests that tell when a stage's code or data changed."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

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
    pending = [*_imports(Path(script)), *modules]
    while pending:
        name = pending.pop()
        path = _module_path(name)
        if path is None or name in closure or name == "xiqa.config":
            continue
        closure[name] = path
        pending += [*_imports(path), *_packages(name)]
    digest = hashlib.sha256(_tree(Path(script)).encode())
    for name in sorted(closure):
        digest.update(f"\0{name}\0{_tree(closure[name])}".encode())
    tables = {table for path in closure.values() for table in (path.parent / "tables").glob("*.csv")}
    for path in [*sorted(tables), *sorted(Path(file) for file in files)]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@lru_cache
def _tree(path: Path) -> str:
    """The syntax tree as text, without docstrings (comments are not part of it)."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:]
    return ast.dump(tree, include_attributes=False)


@lru_cache
def _imports(path: Path) -> tuple[str, ...]:
    """Names of first-party modules that a file imports anywhere, also inside functions."""
    names = []
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{path}: found a relative import, expected full names, for digests")
    return tuple(name for name in names if name.split(".")[0] == "xiqa")


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


@lru_cache
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
