"""Compressed pixels of DICOM files are decoded in a process of its own, which a damaged file may end.

The decoders are written in C and C++. Some of them crash on damaged data, or go on with what happens to lie in the
memory; Python cannot catch that. `decode` sends one image to the process and gets pixels or a reason back; if the
process ends or hangs, that is the reason, and the next image gets a new process. This module is the program of the
process too, and therefore imports little.
"""

from __future__ import annotations

import atexit
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGExtended12Bit, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

JPEG_2000 = {*JPEG2000TransferSyntaxes, *(f"1.2.840.10008.1.2.4.20{number}" for number in (1, 2, 3))}
PLUGINS = dict.fromkeys((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes), "gdcm")
PLUGINS |= dict.fromkeys(JPEG_2000, "pylibjpeg")
"""Plugin of pydicom for each transfer syntax with native code: one each, so that all machines give equal pixels."""
SECONDS = 120
"""Longest time for one image."""
BYTES, BYTES_PER_PIXEL = 256 << 20, 64
"""Memory that the process may take for one image, beyond what it has: a damaged one can ask for any amount."""
_HARMLESS = b"extraneous bytes before marker 0xd9"
"""Some encoders leave a few bytes between the last pixel and the end of the image; libjpeg remarks on it."""


class Undecodable(ValueError):
    """Compressed pixels that cannot be decoded; the text is the reason."""


def decode(content: bytes, options: dict[str, Any]) -> np.ndarray:
    """Decode one image.

    Args:
        content: the value of PixelData: one frame, encapsulated.
        options: transfer_syntax_uid, rows, columns, bits_allocated, bits_stored, pixel_representation and
            photometric_interpretation, as in the header of the file.

    Returns:
        (rows, columns) of the integer type that the header says.

    Raises:
        Undecodable: damaged, of another size than the header says, or the decoder crashed or hung.
    """
    frame = next(generate_frames(content, number_of_frames=1))
    check_frame(frame, options)
    with _LOCK:
        return _process().decode(content, options)


def check_frame(frame: bytes, options: dict[str, Any]) -> None:
    """Refuse a compressed image that is cut off or is not the image of its header: decoders trust one of the two.

    Raises:
        Undecodable: no start or end of an image, or other rows, columns, channels or bits than the header says.
    """
    found = stream_header(frame)
    expected = options["rows"], options["columns"], 1
    if found[:3] != expected:
        raise Undecodable(f"they hold (rows, columns, channels) {found[:3]}, the header says {expected}")
    if not 2 <= found[3] <= options["bits_allocated"]:
        raise Undecodable(f"they have {found[3]} bits, the header says at most {options['bits_allocated']}")
    if not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise Undecodable("they end before the end of the image: truncated")


def stream_header(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, channels and bits of a JPEG, JPEG-LS or JPEG 2000 image, from its own header.

    Raises:
        Undecodable: there is none.

    Reference: ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2, 15444-1 A.5.1.
    """
    with suppress(struct.error):
        if frame.startswith(b"\xff\x4f\xff\x51"):
            right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
            channels, bits = struct.unpack_from(">HB", frame, 40)
            return bottom - top, right - left, channels, (bits & 0x7F) + 1
        place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
        while True:
            mark, kind, length = struct.unpack_from(">BBH", frame, place)
            if mark != 0xFF or kind == 0xDA:
                break
            if kind == 0xFF:
                place += 1
            elif kind == 0xF7 or (0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)):
                bits, rows, columns, channels = struct.unpack_from(">BHHB", frame, place + 4)
                return rows, columns, channels, bits
            else:
                place += 2 + length
    raise Undecodable("they are no image of this kind, or its header is damaged")


class _Process:
    """The other side: where images are sent to, and pixels come from."""

    def __init__(self):
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        # -P: a file of the user's folder that is called as one of ours must not be imported.
        self.running = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__ if __name__ != "__main__" else "xiqa.datasets.dicom_decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.into, self.out_of = self.running.stdin, self.running.stdout
        self.owner = os.getpid()

    def decode(self, content: bytes, options: dict[str, Any]) -> np.ndarray:
        timer = threading.Timer(SECONDS, self.running.kill)
        timer.start()
        try:
            _send(self.into, options, content)
            answer, pixels = _receive(self.out_of)
        except (OSError, EOFError):
            self.end()
            raise Undecodable("the decoder crashed or did not come to an end on them: damaged") from None
        finally:
            timer.cancel()
        if "problem" in answer:
            raise Undecodable(answer["problem"])
        return np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"])

    def usable(self) -> bool:
        # A forked child must not speak into the pipe of its parent.
        return self.owner == os.getpid() and self.running.poll() is None

    def end(self) -> None:
        if self.owner == os.getpid():
            self.running.kill()
            self.running.wait()
            self.out_of.close()
            with suppress(OSError):  # what it did not take any more
                self.into.close()


_LOCK = threading.Lock()
_STARTED: list[_Process] = []


def _end_all() -> None:
    for process in _STARTED:
        process.end()


def _process() -> _Process:
    if not (_STARTED and _STARTED[0].usable()):
        if _STARTED:
            _STARTED.pop().end()
        else:
            atexit.register(_end_all)
        _STARTED.append(_Process())
    return _STARTED[0]


def _send(stream: BinaryIO, head: dict[str, Any], content: bytes) -> None:
    text = json.dumps(head | {"length": len(content)}).encode()
    stream.write(text + b"\n")
    stream.write(content)
    stream.flush()


def _receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    content = stream.read(head["length"])
    if len(content) < head["length"]:
        raise EOFError
    return head, content


# ---------------------------------------------------------------------------------------------------------------------
# In the process


def _main() -> None:
    answers, remarks = os.fdopen(os.dup(1), "wb"), tempfile.TemporaryFile()  # noqa: SIM115
    # Whatever a decoder prints is a remark on the image, and must not lie between the answers.
    os.dup2(remarks.fileno(), 1)
    os.dup2(remarks.fileno(), 2)
    while True:
        try:
            options, content = _receive(sys.stdin.buffer)
        except EOFError:
            return
        options.pop("length")
        _limit_memory(options["rows"] * options["columns"])
        remarks.seek(0)
        remarks.truncate()
        try:
            pixels = np.ascontiguousarray(_decoded(content, options))
            remarks.seek(0)
            remark = next((line for line in remarks if line.strip() and _HARMLESS not in line), None)
            if remark:
                raise Undecodable(f"the decoder says: {remark.decode('ascii', 'replace').strip()[:100]}")
            _send(answers, {"dtype": pixels.dtype.str, "shape": pixels.shape}, pixels.tobytes())
        except BaseException as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).replace(f"{Undecodable.__name__}: ", "")
            _send(answers, {"problem": reason[:300]}, b"")


def _limit_memory(pixels: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, highest = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES + BYTES_PER_PIXEL * pixels, highest))


def _decoded(content: bytes, options: dict[str, Any]) -> np.ndarray:
    syntax = UID(options.pop("transfer_syntax_uid"))
    if syntax == JPEGExtended12Bit and options["bits_stored"] > 8:
        return _twelve_bits(next(generate_frames(content, number_of_frames=1)), options)
    further = {"samples_per_pixel": 1, "number_of_frames": 1, "pixel_keyword": "PixelData"}
    decoder = get_decoder(syntax)
    return decoder.as_array(content, raw=True, decoding_plugin=PLUGINS[syntax], **options, **further)[0]


def _twelve_bits(frame: bytes, options: dict[str, Any]) -> np.ndarray:
    """Lossy JPEG of 12 bits, which pydicom does not pass to gdcm, though gdcm decodes it."""
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((options["columns"], options["rows"], 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(options["photometric_interpretation"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    bits, signed = options["bits_stored"], options["pixel_representation"]
    image.SetPixelFormat(gdcm.PixelFormat(1, options["bits_allocated"], bits, bits - 1, signed))
    values = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(values, "<i2" if signed else "<u2").reshape(options["rows"], options["columns"])


if __name__ == "__main__":
    _main()
