"""What the files of a data set may ask for: how much memory their headers may claim, how far compressed data unpack."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import BinaryIO

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Loaded, Records

LIMIT_KEY = "largest_image_mb"
"""Key of a data set in the configuration. By default a CT of 1,000 slices of 512 × 512 pixels (524 MB) is read."""
STEP_BYTES = 1 << 18
ZLIB, GZIP, RAW_DEFLATE = 15, 31, -15
"""Values of `wbits`: how zlib is told which kind of stream it has."""


@dataclass(frozen=True)
class Reading:
    """What the files of the data set that is being read may ask for; see `reading`.

    Attributes:
        largest_image_mb: largest image or volume in MB (10⁶ bytes) as it lies unpacked in the memory.
        folder: of the data set; None for a single file, which may name files beside itself.
        link_roots: further folders in which files may lie.
        mask_values: what is inside of a mask, see `masks`.
    """

    largest_image_mb: float = Dataset.model_fields[LIMIT_KEY].default
    folder: Path | None = None
    link_roots: tuple[Path, ...] = ()
    mask_values: str = Dataset.model_fields["mask_values"].default

    @property
    def largest_bytes(self) -> int:
        """The limit in bytes."""
        return int(self.largest_image_mb * 1_000_000)


_DEFAULT = Reading()
_CURRENT: ContextVar[Reading] = ContextVar("reading", default=_DEFAULT)


def current() -> Reading:
    """The rules that hold here: those of `reading`, or the defaults."""
    return _CURRENT.get()


@contextmanager
def reading(rules: Reading) -> Iterator[None]:
    """Let these rules hold for all files that are listed or read inside the block."""
    token = _CURRENT.set(rules)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def with_rules(read: Callable[[Path, Dataset], Records]) -> Callable[[Path, Dataset], Records]:
    """Let the rules of a data set hold wherever its reader lists and loads: the decorator of every reader's `read`."""

    @wraps(read)
    def listed(folder: Path, dataset: Dataset) -> Records:
        links = tuple(Path(root) for root in dataset.link_roots) if dataset.follow_links else ()
        rules = Reading(dataset.largest_image_mb, Path(folder), links, dataset.mask_values)
        items = read(Path(folder), dataset)
        while True:
            with reading(rules):
                item = next(items, None)
            if item is None:
                return
            yield item if isinstance(item, DataError) else replace(item, load=partial(_load, rules, item.load))

    return listed


def _load(rules: Reading, load: Callable[[], Loaded]) -> Loaded:
    with reading(rules):
        return load()


def check_size(path: str | Path, shape: Sequence[int], bytes_per_value: float) -> int:
    """Refuse what a header claims before any memory is taken for it.

    Args:
        path: the file.
        shape: all axes as the header gives them: frames, rows, columns, channels, in any order.
        bytes_per_value: of a stored value, unpacked.

    Returns:
        The bytes that the header claims.

    Raises:
        DataError: an axis below 1, or more than the limit; names the claim, the limit and its key.
    """
    shape = [int(length) for length in shape]  # numbers of numpy would wrap round
    claimed = " × ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise DataError(path, f"claims an image of {claimed or 'no'} values, expected 1 or more along each axis")
    size = math.ceil(math.prod(shape) * bytes_per_value)
    if size > current().largest_bytes:
        raise DataError(
            path,
            f"claims an image of {claimed} values, {size / 1e6:,.0f} MB; the limit is "
            f"{current().largest_image_mb:,.0f} MB. If the file is right, raise {LIMIT_KEY} of the data set",
        )
    return size


def inflated(path: str | Path, stream: BinaryIO, wbits: int, most_bytes: int | None = None) -> Iterator[bytes]:
    """Unpack deflated data step by step: whole, with their checksum, and never more than allowed.

    Args:
        path: the file, for messages.
        stream: where the data begin; read up to its end.
        wbits: ZLIB, GZIP (also of several members, padded with zeros) or RAW_DEFLATE (without checksum,
            perhaps padded).
        most_bytes: largest size unpacked; nothing: the limit of the data set.

    Yields:
        Pieces of at most 256 KiB.

    Raises:
        DataError: damaged, truncated, with a wrong checksum, followed by other bytes, or larger than allowed.
    """
    limit = current().largest_bytes if most_bytes is None else most_bytes
    unpacker, pending, produced, checksum = zlib.decompressobj(wbits), b"", 0, 0
    try:
        while True:
            pending = pending or stream.read(STEP_BYTES)
            if unpacker.eof:
                if wbits == RAW_DEFLATE:
                    # gdcm leaves the checksum and the size of gzip behind.
                    pending = (pending + stream.read(8)).removeprefix(struct.pack("<2I", checksum, produced % 2**32))
                # DICOM and tapes pad what they store; in gzip another member may follow.
                if not pending:
                    return
                if wbits != ZLIB and not pending.strip(b"\0"):
                    pending = b""
                    continue
                if wbits != GZIP:
                    raise DataError(path, "found further bytes behind the compressed data; copy or export it again")
                unpacker = zlib.decompressobj(wbits)
            # Without input it gives what it still holds.
            piece = unpacker.decompress(pending, STEP_BYTES)
            if not (pending or piece or unpacker.eof):
                raise DataError(path, "the compressed data end too early: truncated; copy the file again")
            pending = unpacker.unconsumed_tail or unpacker.unused_data
            produced, checksum = produced + len(piece), zlib.crc32(piece, checksum)
            if produced > limit:
                raise DataError(
                    path,
                    f"unpacks to more than {limit / 1e6:,.3g} MB, which its header or {LIMIT_KEY} allows; it is "
                    "damaged, or made to fill the memory",
                )
            if piece:
                yield piece
    except zlib.error as error:
        reason = str(error).rpartition(": ")[2]
        raise DataError(path, f"the compressed data are damaged ({reason}); copy the file again") from None
