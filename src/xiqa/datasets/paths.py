"""Which files a data set may be made of: those in its folder, and in the folders that the configuration names.

Whatever a table, a header or a search names passes `checked`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xiqa.datasets.base import DataError
from xiqa.datasets.limits import current


def checked(path: Path, named_by: Path, name: str | None = None) -> Path:
    """A path, refused if the file that it leads to lies elsewhere or is none.

    Args:
        path: what is named, also by a link.
        named_by: the file or folder that names it.
        name: how it names it, for the message.

    Raises:
        DataError: it leads out of the data set's folder (a single file's: the folder of `named_by`) and of
            `link_roots`, or to no file.
    """
    name = str(path) if name is None else name
    try:
        allowed, there = _within(path, *_roots(named_by)), path.is_file()
    except (OSError, RuntimeError, ValueError):  # NUL in the name, too long, links in a circle
        raise DataError(named_by, f"names {name!r}, which no file can be called; correct it") from None
    if not allowed:
        advice = "give paths inside the data folder, or follow_links: true with link_roots, the folders of the targets"
        raise DataError(named_by, f"names '{name}', which lies outside {_roots(named_by)[0]}; {advice}")
    if not there:
        raise DataError(named_by, f"names '{name}', but {path} is no file; restore it or take its row out")
    return path


def inside(folder: Path, name: str, listed_in: Path) -> Path:
    """The path of a file that a table names, see `checked`.

    Args:
        folder: where the name starts from.
        name: path relative to it, as the table gives it; backslashes count as slashes.
        listed_in: the table.

    Raises:
        DataError: the path leads out of the data set (also by a link), or names no file.
    """
    return checked(folder / name.replace("\\", "/"), listed_in, name)


def if_there(path: Path, named_by: Path) -> Path | None:
    """A file that need not be there, such as a mask: None if it is not, else as `checked`.

    Raises:
        DataError: it leads out of the data set.
    """
    return checked(path, named_by) if os.path.lexists(path) else None


def files_below(folder: Path, *suffixes: str) -> Iterator[Path | DataError]:
    """All files below a folder, sorted, but hidden ones; a link that leads out of the data set is a fault.

    Links to folders in `link_roots` are followed, those to folders of the data set are not: their files are found
    where they lie.

    Args:
        folder: where to begin.
        suffixes: ends of names in lower case; none: all files.
    """
    if not folder.is_dir():
        return
    roots, seen = _roots(folder), set()

    def below(place: Path) -> Iterator[Path | DataError]:
        seen.add(place.resolve())
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir() and (not path.is_symlink() or _within(path, *roots[1:])):
                if path.resolve() not in seen:
                    yield from below(path)
            elif path.is_dir() and _within(path, roots[0]):
                continue
            elif path.is_dir() or path.name.lower().endswith(suffixes or ""):
                try:
                    yield checked(path, folder, path.relative_to(folder).as_posix())
                except DataError as fault:
                    yield fault

    yield from below(folder)


def _roots(named_by: Path) -> tuple[Path, ...]:
    rules = current()
    return rules.folder or (named_by if named_by.is_dir() else named_by.parent), *rules.link_roots


def _within(path: Path, *roots: Path) -> bool:
    return any(path.resolve().is_relative_to(root.resolve()) for root in roots)
