"""Hash values that stay the same on every machine and in every release: what seeded orders are sorted by."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

_WORD = 8


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): one input bit changes about half the output bits."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hash_strings(strings: pl.Series, seed: int = 0) -> NDArray[np.uint64]:
    """A 64-bit hash of each string's UTF-8 bytes, chained over 8-byte words; the only loop is over words, not strings.

    Args:
        strings: string series ``[N]`` without nulls.
        seed: another seed gives an unrelated hash.

    Returns:
        uint64 ``[N]``.
    """
    array = strings.rechunk().to_arrow()
    count = len(array)
    _, offsets_buffer, bytes_buffer = array.buffers()
    if count == 0 or offsets_buffer is None:
        return np.zeros(0, dtype=np.uint64)
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[array.offset : array.offset + count + 1]
    lengths = np.diff(offsets)
    # Seven spare bytes, so that the last string's last word can be read whole.
    text = np.frombuffer(bytes_buffer, dtype=np.uint8) if bytes_buffer is not None else np.zeros(0, dtype=np.uint8)
    padded = np.concatenate([text[offsets[0] : offsets[-1]], np.zeros(_WORD, dtype=np.uint8)])
    words = np.ndarray(len(padded) - _WORD + 1, dtype="<u8", buffer=padded.data, strides=(1,))
    starts = offsets[:-1] - offsets[0]

    start = mix(np.array([seed % 2**64], dtype=np.uint64))
    hashes = mix(start ^ lengths.astype(np.uint64))
    active = np.arange(count)
    for word in range(int(-(-lengths.max() // _WORD))):
        active = active[lengths[active] > word * _WORD]
        missing = np.maximum(0, (word + 1) * _WORD - lengths[active]).astype(np.uint64)
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> (missing * np.uint64(8))
        hashes[active] = mix(hashes[active] ^ (words[starts[active] + word * _WORD] & mask))
    return hashes


def seeded_order(strings: pl.Series, seed: int) -> pl.Series:
    """The distinct strings in a random-looking order in which any two keep their places whatever else is present."""
    unique = strings.unique().sort()
    return unique.gather(np.argsort(hash_strings(unique, seed), kind="stable"))
