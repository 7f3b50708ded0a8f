"""Damaged files of every format: what reading them may come to. Shared by the tests and by `make bench`.

A seed is a sound file. Its mutants have bytes flipped, an end cut off, a field of the header overwritten, bytes put in
or taken out. Reading a mutant must end in a DataError or in the pixels of the seed. Other pixels are allowed only where
no checksum protects what was changed, and only if the seed says that these bytes decide the pixels: `Seed.open_bytes`.
Nothing else may happen: no other exception, no death of the process, no memory beyond `MEMORY_MB`.
"""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MEMORY_MB = 256
"""How much more than before a process may take for the files below, of which the largest has 10 kB."""
LARGEST_IMAGE_MB = 64
"""Limit of the data set while the mutants are read."""
MEANT = (b"BinaryDataByteOrderMSB", b"TransformMatrix", b"DimSize", b"ElementType", b"NDims")
PIXELS = np.random.default_rng(0).integers(0, 1000, (24, 20)).astype(np.int16)
PIXELS[8:16, 4:12] = 7  # so that packing has something to pack


@dataclass(frozen=True)
class Seed:
    """A sound file of one format.

    Attributes:
        name: of the file that is read.
        content: its bytes.
        beside: further files that it needs, by name; the one named `changed` is damaged instead, if given.
        changed: name of the file that is damaged; nothing: that which is read.
        fields: (start, length) of fields in the header, where mutants are made more often.
        open_bytes: (start, end) of the bytes that no checksum protects and that decide the pixels: stored values, and
            fields of a header that say how they are meant (type, scale, place, shape of equal size).
        pack: what is done to the damaged bytes at last, such as gzip of a damaged header.
    """

    name: str
    content: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    changed: str = ""
    fields: tuple[tuple[int, int], ...] = ()
    open_bytes: tuple[tuple[int, int], ...] = ()
    pack: Callable[[bytes], bytes] = bytes

    @property
    def damaged(self) -> bytes:
        """The bytes that mutants are made of."""
        return self.beside[self.changed] if self.changed else self.content


def gzipped(content: bytes) -> bytes:
    """Packed without the time."""
    return gzip.compress(content, mtime=0)


def volume_seeds() -> dict[str, Seed]:
    """One seed per kind of volume file."""
    import h5py
    import nibabel
    import SimpleITK

    seeds = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        image = nibabel.Nifti1Image(PIXELS.T, np.diag([-1.0, -1.0, 1.0, 1.0]))
        nibabel.save(image, place / "a.nii")
        nibabel.save(image, place / "a.nii.gz")
        nibabel.save(nibabel.Nifti1Pair(PIXELS.T, image.affine), place / "p.img")
        grey = SimpleITK.GetImageFromArray(PIXELS[None])
        for name, packed in (("a.mha", False), ("z.mha", True), ("a.mhd", False), ("z.mhd", True)):
            SimpleITK.WriteImage(grey, str(place / name), useCompression=packed)
        with h5py.File(place / "1.mat", "w") as file:
            file["cjdata/image"] = PIXELS.T
            file["cjdata/tumorMask"] = np.uint8(PIXELS.T == 7)
            file["cjdata/label"] = np.array([[2.0]])
            file["cjdata/PID"] = np.array([[65, 66]], np.uint16)
        with h5py.File(place / "1.mat") as file:
            # No checksum protects values that are not packed, nor the headers of their fields in this version.
            stored = [file["cjdata/image"].id, file["cjdata/tumorMask"].id]
            open_mat = [(entry.get_offset(), entry.get_offset() + entry.get_storage_size()) for entry in stored]
            headers = [h5py.h5o.get_info(entry) for entry in stored]
            open_mat += [(info.addr, info.addr + info.hdr.space.total) for info in headers]
        found = {path.name: path.read_bytes() for path in place.iterdir()}
    # Of a NIfTI header: shape, type and bits, where the values begin, scale, codes and affines.
    fields = ((0, 4), (40, 16), (70, 4), (76, 16), (108, 12), (123, 1), (252, 4), (256, 24), (280, 48), (344, 4))
    meant = ((40, 56), (70, 74), (76, 92), (108, 124), (252, 328))
    plain = found["a.nii"]
    seeds[".nii"] = Seed("a.nii", plain, fields=fields, open_bytes=(*meant, (352, len(plain))))
    seeds[".nii.gz"] = Seed("a.nii.gz", found["a.nii.gz"], fields=((0, 10),))
    seeds[".nii in .gz"] = Seed("a.nii.gz", plain, fields=fields, open_bytes=seeds[".nii"].open_bytes, pack=gzipped)
    seeds[".hdr"] = Seed("p.hdr", found["p.hdr"], {"p.img": found["p.img"]}, "", fields, (*meant, (344, 348)))
    seeds[".img"] = Seed("p.hdr", found["p.hdr"], {"p.img": found["p.img"]}, "p.img", (), ((0, len(found["p.img"])),))
    for name in ("a.mha", "z.mha", "a.mhd", "z.mhd"):
        end = found[name].index(b"\n", found[name].index(b"ElementDataFile")) + 1
        # Lines of a text without a checksum that say how the values are meant; what stands in others is not used.
        lines = found[name][:end].splitlines(keepends=True)
        starts = np.cumsum([0, *map(len, lines)])
        open_bytes = tuple(
            (int(start), int(start) + len(line))
            for start, line in zip(starts, lines, strict=False)
            if line.split(b" ")[0] in MEANT
        )
        if name == "a.mha":
            open_bytes += ((end, len(found[name])),)
        data = {key: content for key, content in found.items() if key in (f"{name[0]}.raw", f"{name[0]}.zraw")}
        beside = data if name.endswith(".mhd") else {}
        seeds[name] = Seed(name, found[name], beside, "", ((0, end),), open_bytes)
        for key, content in beside.items():
            seeds[key] = Seed(name, found[name], beside, key, (), ((0, len(content)),) if key == "a.raw" else ())
    mat = found["1.mat"]
    seeds[".mat"] = Seed("1.mat", mat, fields=((0, 800),), open_bytes=tuple(open_mat))
    return seeds


def mutants(seed: Seed, count: int, random_seed: int = 0) -> Iterator[tuple[str, bytes, list[int]]]:
    """Damaged copies: what was done, the bytes, and which places were overwritten ([] where the length changed)."""
    rng = np.random.default_rng(random_seed)
    sound = seed.damaged
    kinds = ("flip", "flips", "cut", "field", "field", "insert", "take", "zero", "end")
    for number in range(count):
        kind, content = kinds[number % len(kinds)], bytearray(sound)
        places: list[int] = []
        if kind in ("flip", "flips"):
            places = [int(place) for place in rng.integers(0, len(content), 1 if kind == "flip" else 6)]
            for place in places:
                content[place] ^= 1 << int(rng.integers(8))
        elif kind in ("field", "zero"):
            start, length = seed.fields[rng.integers(len(seed.fields))] if seed.fields else (0, len(content))
            if length > 16:
                start, length = start + int(rng.integers(length - 8)), int(rng.integers(1, 9))
            new = bytes(length) if kind == "zero" else _extreme(rng, length)
            content[start : start + length] = new
            places = list(range(start, start + length))
        elif kind == "cut":
            del content[int(rng.integers(len(content))) :]
        elif kind == "insert":
            place = int(rng.integers(len(content) + 1))
            content[place:place] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == "take":
            place = int(rng.integers(len(content)))
            del content[place : place + int(rng.integers(1, 40))]
        else:
            content += rng.bytes(int(rng.integers(1, 40)))
        yield kind, bytes(content), places


def _extreme(rng: np.random.Generator, length: int) -> bytes:
    """Bytes as they trip up readers: all ones, large and negative numbers, digits, or anything."""
    choice = rng.integers(4)
    if choice == 0:
        return b"\xff" * length
    if choice == 1:
        return (b"\x00\x00\x00\x7f" * length)[:length]
    if choice == 2:
        return bytes(rng.choice(np.frombuffer(b"0123456789-. ", np.uint8), length))
    return rng.bytes(length)


def pixels_of(path: Path) -> np.ndarray:
    """The pixels of a file as a study reads them."""
    if path.suffix == ".mat":
        from xiqa.config import Dataset
        from xiqa.datasets import brain_tumor

        (item,) = brain_tumor.read(path.parent, Dataset(format="brain_tumor", largest_image_mb=LARGEST_IMAGE_MB))
        if isinstance(item, Exception):
            raise item
        loaded = item.load()
        return np.stack([loaded.pixels, loaded.mask])
    from xiqa.datasets.images import load_image
    from xiqa.datasets.limits import Reading, reading

    with reading(Reading(LARGEST_IMAGE_MB)):
        return load_image(path).pixels


def outcome(seed: Seed, mutant: tuple[str, bytes, list[int]], expected: np.ndarray, folder: Path) -> str:
    """`refused`, `right` or `other pixels, allowed`; anything else is a finding and says what happened."""
    from xiqa.datasets.base import DataError

    kind, content, places = mutant
    (folder / (seed.changed or seed.name)).write_bytes(seed.pack(content))
    try:
        found = pixels_of(folder / seed.name)
    except DataError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    if found.shape == expected.shape and np.array_equal(found, expected):
        return "right"
    changed = [place for place in places if content[place] != seed.damaged[place]] if places else None
    if changed is None:
        # Bytes put in or taken out overwrite all behind them; the length of the file alone gives nothing away.
        first = next((i for i, (a, b) in enumerate(zip(content, seed.damaged, strict=False)) if a != b), len(content))
        changed = [first] if first < len(seed.damaged) else [-1]
    if any(start <= place < end for place in changed for start, end in seed.open_bytes):
        return "other pixels, allowed"
    return f"other pixels, silently, after {kind} at {changed[:6]}"


def run(seed: Seed, count: int, random_seed: int = 0) -> tuple[Counter[str], float]:
    """Read mutants in a process of its own.

    Returns:
        How often each outcome came, and by how many MB the process grew.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(seed, count, random_seed, there))
    process.start()
    there.close()
    outcomes: Counter[str] = Counter()
    grown_mb = 0.0
    try:
        while True:
            text = here.recv()
            if isinstance(text, float):
                grown_mb = text
            else:
                outcomes[text] += 1
    except EOFError:
        process.join()
    if process.exitcode:
        outcomes[f"the process died ({process.exitcode}) at mutant {sum(outcomes.values())}"] += 1
    return outcomes, grown_mb


def _run(seed: Seed, count: int, random_seed: int, answer) -> None:
    sys.stderr = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sound = ("none", seed.damaged, [])
        for name, content in {seed.name: seed.content, **seed.beside}.items():
            (place / name).write_bytes(seed.pack(content) if name == seed.name else content)
        expected = pixels_of(place / seed.name)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer.send(outcome(seed, sound, expected, place))
        for mutant in mutants(seed, count, random_seed):
            answer.send(outcome(seed, mutant, expected, place))
        answer.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    answer.close()
    os._exit(0)
