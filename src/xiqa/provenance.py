"""Digests that tell when a stage's code or data changed."""

from __future__ import annotations

import ast
import atexit
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).resolve().parent.parent
REGISTRY = "xiqa.registry"
"""Tables of what can be chosen by name: their values count, so that another entry reruns no stage that takes none."""
BY_NAME = frozenset({"xiqa.config", REGISTRY})
"""Modules of which a stage does not rest on all: only what it imports of them counts, name by name."""


def code_digest(
    script: str | Path,
    modules: Iterable[str] = (),
    files: Iterable[str | Path] = (),
    entries: Iterable[str] | None = None,
) -> str:
    """Digest a script together with all first-party modules that it imports, however deep.

    What is digested is the syntax tree without comments, docstrings and imports for type checkers, so that rewording a
    comment reruns nothing. Of `xiqa.config` and `xiqa.registry` the constants and functions count that the stage
    imports, one by one, with what they are made of; of the registry's constants their values. Of a class there only the
    methods count: the values of its fields reach a stage through its parameters, and a new key elsewhere must not rerun
    this stage. A data file of the package counts for the modules that name it; a .csv counts by its cells.

    Args:
        script: path of a stage's script.
        modules: further modules ("xiqa.saliency.omig") that the script loads by name.
        files: further files, such as the stage's environment, that count byte by byte.
        entries: the keys that the stage takes of the dictionaries of these modules; None: all. With them, a new
            saliency method reruns no stage of the others.

    Returns:
        16 hexadecimal digits.

    Raises:
        ValueError: a module is named that does not exist, or a name that its module does not define.
    """
    script, keys = Path(script), None if entries is None else frozenset(entries)
    closure: dict[str, Path] = {}
    taken: dict[str, _Code] = {}
    pending = [*_outline(script).imports, *(_Import(module, None) for module in modules)]
    while pending:
        module, name = pending.pop()
        path = _module_path(SOURCE, module)
        if path is None:
            raise ValueError(f"{script}: needs the module {module}, which does not exist in {SOURCE}; correct its name")
        if name is not None and name not in _outline(path).names:
            raise ValueError(
                f"{script}: needs {name} of {module}, which does not define it; import it where it is defined, so that "
                "its changes are seen"
            )
        if module in BY_NAME and name is not None:
            if (full_name := f"{module}.{name}") not in taken:
                taken[full_name] = _definition(module, path, name, keys)
                pending += taken[full_name].imports
        elif module not in closure:
            closure[module] = path
            pending += [*_outline(path).imports, *(_Import(package, None) for package in _packages(module))]
    digest = hashlib.sha256(_outline(script).tree.encode())
    for module in sorted(closure):
        digest.update(f"\0{module}\0{_outline(closure[module]).tree}".encode())
    for full_name in sorted(taken):
        digest.update(f"\0{full_name}\0{taken[full_name].tree}".encode())
    for data in sorted({data for path in closure.values() for data in _named_data(SOURCE, path)}):
        digest.update(f"\0{data.name}\0".encode() + _content(data))
    for path in sorted(Path(file) for file in files):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class _Import(NamedTuple):
    """A first-party module, and the name that is taken of it; None: all of it."""

    module: str
    name: str | None


class _Code(NamedTuple):
    """What counts of a file or of one name: its syntax tree as a digest, what it imports, what a file defines."""

    tree: str
    imports: tuple[_Import, ...]
    definitions: dict[str, list[ast.AST]]


class _Outline(NamedTuple):
    """What is kept of a file between runs: the digest of its tree, what it imports, and the names that it defines."""

    tree: str
    imports: tuple[_Import, ...]
    names: frozenset[str]


_memory: dict[str, Any] | None = None
"""Outlines and patterns of data files by the digest of a file's bytes; None: nothing is remembered."""


def remember(path: str | Path) -> Callable[[], None]:
    """Keep what is found in files, by their content, in a file from now on: parsing takes half of a start.

    It holds for one version of this module and of Python, and for one set of modules; otherwise it begins anew. A
    folder that cannot be written is no fault.

    Args:
        path: a .json file.

    Returns:
        What writes it; it is called when the process ends.
    """
    global _memory
    path, modules = Path(path), sorted(str(module.relative_to(SOURCE)) for module in SOURCE.rglob("xiqa/**/*.py"))
    valid_for = hashlib.sha256("\0".join([sys.version, Path(__file__).read_text(), *modules]).encode()).hexdigest()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    _memory = dict(kept["files"]) if isinstance(kept, dict) and kept.get("valid_for") == valid_for else {}
    before = len(_memory)

    def write() -> None:
        if _memory is not None and len(_memory) > before:
            temporary = path.with_suffix(f".{os.getpid()}")
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps({"valid_for": valid_for, "files": _memory}), encoding="utf-8")
                temporary.replace(path)

    return atexit.register(write)


def _outline(path: Path) -> _Outline:
    """What is digested of a file, from memory where there is one."""
    if _memory is None:
        code = _read(path)
        return _Outline(code.tree, code.imports, frozenset(code.definitions))
    return _remembered(path, file_digest(path))


@cache
def _remembered(path: Path, digest: str) -> _Outline:
    memory = _memory if _memory is not None else {}
    if digest not in memory:
        code = _read(path)
        memory[digest] = [code.tree, code.imports, sorted(code.definitions)]
    tree, imports, names = memory[digest]
    return _Outline(tree, tuple(_Import(*one) for one in imports), frozenset(names))


@cache
def _read(path: Path) -> _Code:
    """Read a file without its docstrings and comments; imports inside functions are found too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imports = [found for node in _statements(tree) for found in _imports(node, path)]
    definitions: dict[str, list[ast.AST]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            definitions.setdefault(name, []).append(statement)
    return _Code(_digest(tree), tuple(imports), definitions)


def _digest(*trees: ast.AST) -> str:
    """Digest of syntax trees without their places in the file; `ast.dump` takes more than twice as long."""
    words: list[str] = []

    def add(value: Any) -> None:
        if hasattr(value, "_fields"):
            words.append(type(value).__name__)
            for field in value._fields:
                add(getattr(value, field, None))
        elif isinstance(value, list):
            words.append("[")
            for one in value:
                add(one)
            words.append("]")
        else:
            words.append(repr(value))

    for tree in trees:
        add(tree)
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all statements below it, after taking out docstrings and what only type checkers read.

    Imports and docstrings lie nowhere else, and expressions are many.
    """
    if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
        node.body = []
    elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            node.body = node.body[1:]
    yield node
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, block, ()):
            yield from _statements(child)


def _imports(node: ast.AST, path: Path) -> list[_Import]:
    """What one statement imports of this package."""
    found = []
    if isinstance(node, ast.Import):
        found = [_Import(alias.name, None) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level:
        raise ValueError(f"{path}: found a relative import, expected full names, for digests")
    elif isinstance(node, ast.ImportFrom):
        for name in (alias.name for alias in node.names):
            is_module = _module_path(SOURCE, f"{node.module}.{name}") is not None
            found.append(
                _Import(f"{node.module}.{name}", None)
                if is_module
                else _Import(node.module or "", None if name == "*" else name)
            )
    return [one for one in found if one.module.split(".")[0] == "xiqa"]


def _defined(statement: ast.AST) -> set[str]:
    """Names that a statement of a module defines; of a block, all that lie in it."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None) or statement]
    names: set[str] = set()
    is_function = isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    for node in [statement] if is_function else [found for target in targets for found in ast.walk(target)]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _definition(module: str, path: Path, name: str, keys: frozenset[str] | None) -> _Code:
    """What counts of one name of a module: its statements, and the other names of the module in them."""
    code = _read(path)
    if module == REGISTRY and isinstance(code.definitions[name][0], ast.Assign | ast.AnnAssign):
        return _Code(_stable(_values(path.read_text(encoding="utf-8"))[name], keys), (), {})
    trees = [part for statement in code.definitions[name] for part in _parts(_of_name(statement, name), keys)]
    imports = [found for tree in trees for found in _imports(tree, path)]
    named = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    others = [_Import(module, other) for other in sorted(named & code.definitions.keys() - {name})]
    return _Code(_digest(*trees), (*imports, *others), {})


def _of_name(statement: ast.AST, name: str) -> ast.AST:
    """A statement; of an import what it imports under this name."""
    if not isinstance(statement, ast.ImportFrom):
        return statement
    aliases = [alias for alias in statement.names if (alias.asname or alias.name) == name]
    return ast.ImportFrom(statement.module, aliases, statement.level)


@cache
def _values(source: str) -> dict[str, Any]:
    """What a module of data defines."""
    values: dict[str, Any] = {"__name__": REGISTRY}
    exec(compile(source, REGISTRY, "exec"), values)
    return values


def _stable(value: Any, keys: frozenset[str] | None) -> str:
    """A value as text that is the same in every process; of a dictionary the entries that are taken."""
    if isinstance(value, dict):
        return repr([(key, entry) for key, entry in value.items() if keys is None or key in keys])
    return repr(sorted(value) if isinstance(value, frozenset) else value)


def _parts(statement: ast.AST, keys: frozenset[str] | None) -> list[ast.AST]:
    """What counts of a statement: of a class its bases and methods, of a dictionary the entries that are taken."""
    if isinstance(statement, ast.ClassDef):
        methods = [node for node in statement.body if isinstance(node, ast.FunctionDef)]
        # A validator works while the configuration is read; what it makes of it are values of fields.
        return statement.bases + [m for m in methods if not any("validator" in ast.dump(d) for d in m.decorator_list)]
    value = getattr(statement, "value", None)
    if keys is not None and isinstance(value, ast.Dict):
        pairs = [
            (key, entry) for key, entry in zip(value.keys, value.values, strict=True) if isinstance(key, ast.Constant)
        ]
        if len(pairs) == len(value.keys):
            return [part for key, entry in pairs if key.value in keys for part in (key, entry)]
    return [statement]


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


@cache
def _module_path(source: Path, name: str) -> Path | None:
    base = source.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _data_files(source: Path) -> list[Path]:
    """Files of the package that are neither code nor words."""
    files = (path for path in sorted((source / "xiqa").rglob("*.*")) if path.is_file())
    return [path for path in files if path.parent.name != "__pycache__" and path.suffix not in (".py", ".typed", ".md")]


@cache
def _named_data(source: Path, path: Path) -> tuple[Path, ...]:
    """Data files beside a module, or in a folder there, that it names: "tables/published.csv", f"spectrum_{x}.csv"."""
    near = [data for data in _data_files(source) if path.parent in (data.parent, data.parent.parent)]
    text = path.read_text(encoding="utf-8") if near else ""
    if not any(data.suffix in text for data in near):
        return ()
    key = f"names in {hashlib.sha256(text.encode()).hexdigest()}"
    patterns = (_memory or {}).get(key) or _patterns(text)
    if _memory is not None:
        _memory[key] = sorted(patterns)
    return tuple(data for data in near if any(fnmatch(data.name, p) for p in patterns if p.endswith(data.suffix)))


def _patterns(text: str) -> set[str]:
    """Ends of all texts of a module, what is put into them as *."""
    patterns = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts]
            patterns.add("".join(texts).rsplit("/")[-1])
    return patterns


def _content(path: Path) -> bytes:
    """The cells of a .csv, without empty lines; the bytes of another file."""
    if path.suffix != ".csv":
        return path.read_bytes()
    with path.open(encoding="utf-8", newline="") as lines:
        return repr([row for row in csv.reader(lines) if row]).encode()


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
