"""Seeds: every random stream gets its own, from the study's seed and the stream's name."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the study's seed and on what the stream is for, not on any order of jobs.

    Args:
        seed: the study's seed.
        names: what the stream is for, such as "read out" and the name of an exposure setting.
    """
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
