"""What a header may claim and how far compressed data may unpack."""

import gzip
import io
import tracemalloc
import zlib

import numpy as np
import pytest

from xiqa.datasets.base import DataError
from xiqa.datasets.limits import GZIP, RAW_DEFLATE, ZLIB, Reading, check_size, inflated, reading

CONTENT = np.random.default_rng(0).integers(0, 9, 3_000_000).astype(np.uint8).tobytes()


def raw(content):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


PACKED = {ZLIB: zlib.compress(CONTENT), GZIP: gzip.compress(CONTENT), RAW_DEFLATE: raw(CONTENT)}


def unpacked(packed, wbits, **options):
    return b"".join(inflated("a.bin", io.BytesIO(packed), wbits, **options))


def test_a_header_that_claims_60000_by_60000_is_refused_with_limit_and_key():
    message = r"a\.mha: claims an image of 60000 × 60000 values, 7,200 MB; the limit is 1,024 MB\. .*largest_image_mb"
    with pytest.raises(DataError, match=message):
        check_size("a.mha", (60_000, 60_000), 2)
    with reading(Reading(largest_image_mb=7200)):
        assert check_size("a.mha", (60_000, 60_000), 2) == 7_200_000_000
    with pytest.raises(DataError):
        check_size("a.mha", (60_000, 60_000), 2)


@pytest.mark.parametrize("shape", [(), (0, 5), (5, -1), (2**31, 2**31, 2**31), tuple(np.int16([-5, 5]))])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(DataError, match="claims an image of"):
        check_size("a.nii", shape, 1)


def test_products_beyond_64_bits_do_not_wrap_round():
    with pytest.raises(DataError, match="limit"):
        check_size("a.nii", np.array([2**31, 2**31, 4]), 1)


@pytest.mark.parametrize("wbits", PACKED)
def test_whole_streams_are_unpacked(wbits):
    assert unpacked(PACKED[wbits], wbits) == CONTENT
    assert unpacked(PACKED[wbits], wbits, most_bytes=len(CONTENT)) == CONTENT


def test_gzip_of_several_members_and_padding():
    assert unpacked(PACKED[GZIP] + gzip.compress(b"end") + bytes(700), GZIP) == CONTENT + b"end"
    with pytest.raises(DataError, match="damaged"):
        unpacked(PACKED[GZIP] + b"more", GZIP)


@pytest.mark.parametrize("wbits", PACKED)
def test_truncated_streams_are_refused(wbits):
    for end in (1, 20, len(PACKED[wbits]) // 2, -1):
        with pytest.raises(DataError, match="truncated"):
            unpacked(PACKED[wbits][:end], wbits)
    with pytest.raises(DataError, match="truncated"):
        unpacked(b"", wbits)


@pytest.mark.parametrize("wbits", [ZLIB, RAW_DEFLATE])
def test_bytes_behind_the_stream_are_refused(wbits):
    with pytest.raises(DataError, match="further bytes"):
        unpacked(PACKED[wbits] + b"\1", wbits)


def test_deflated_dicom_may_end_with_a_zero_that_makes_its_length_even():
    assert unpacked(PACKED[RAW_DEFLATE] + b"\0", RAW_DEFLATE) == CONTENT
    with pytest.raises(DataError, match="further bytes"):
        unpacked(PACKED[ZLIB] + b"\0", ZLIB)


@pytest.mark.parametrize("wbits", [ZLIB, GZIP])
def test_no_changed_byte_passes(wbits):
    small = bytes(range(256)) * 3
    packed = {ZLIB: zlib.compress, GZIP: lambda content: gzip.compress(content, mtime=0)}[wbits](small)
    for place in range(len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 1 << place % 8
        try:
            found = unpacked(bytes(changed), wbits)
        except DataError:
            continue
        assert found == small  # the bit is no part of the data, such as gzip's time of packing


@pytest.mark.parametrize("wbits", PACKED)
def test_a_bomb_is_stopped_while_it_unpacks(wbits):
    packer = zlib.compressobj(wbits=wbits)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(40)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(DataError, match=r"unpacks to more than 5 MB"):
        for _ in inflated("a.bin", io.BytesIO(bomb), wbits, most_bytes=5_000_000):
            pass
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    with reading(Reading(largest_image_mb=20)), pytest.raises(DataError, match="largest_image_mb"):
        unpacked(bomb, wbits)
