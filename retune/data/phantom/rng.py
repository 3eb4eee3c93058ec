"""Counter-based random numbers: a draw depends on (seed, index, stream) and on nothing else."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_GOLD = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11, _S16, _S32 = (np.uint64(n) for n in (30, 27, 31, 11, 16, 32))
_PAIRS = np.uint64(0x0000FFFF0000FFFF)


def mix(state: U64) -> U64:
    """The finaliser of splitmix64 (Steele et al., 2014), in place; any shape."""
    state ^= state >> _S30
    state *= _MUL1
    state ^= state >> _S27
    state *= _MUL2
    state ^= state >> _S31
    return state


@dataclass(frozen=True)
class Draws:
    """Random numbers for a batch of things, one row for each.

    Args:
        seed: Seed of the whole table.
        index: (n,) identity of each row, for example its patient number.
        space: Keeps patients, images and other families of indices apart.
    """

    seed: int
    index: I64
    space: str

    def _keys(self, name: str) -> U64:
        tag = zlib.crc32(f"{self.space}/{name}".encode())
        key = mix(np.array([(self.seed % 2**64) ^ (tag << 32)], dtype=np.uint64))
        return mix(mix(self.index.astype(np.uint64) * _GOLD + key) ^ key)

    def bits(self, name: str, count: int) -> U64:
        """(n, count) random 64-bit words of the stream called ``name``."""
        step = np.arange(1, count + 1, dtype=np.uint64) * _GOLD
        return mix(self._keys(name)[:, None] + step)

    def uniform(self, name: str, count: int = 1) -> F64:
        """(n, count) numbers strictly between 0 and 1."""
        return ((self.bits(name, count) >> _S11).astype(np.float64) + 0.5) * 2.0**-53

    def between(self, name: str, low: float, high: float, count: int = 1) -> F32:
        """(n, count) float32 uniform numbers in [low, high]."""
        return (low + (high - low) * self.uniform(name, count)).astype(np.float32)

    def normal(self, name: str, count: int = 1) -> F64:
        """(n, count) standard normal numbers."""
        return np.asarray(ndtri(self.uniform(name, count)), dtype=np.float64)

    def noise(self, name: str, height: int, width: int) -> F32:
        """(n, height, width) nearly normal noise, mean 0 and deviation 1.

        Each value is the sum of the four 16-bit quarters of one word, which is normal enough for grain.
        """
        words = self.bits(name, height * width)
        pairs = words >> _S16
        pairs &= _PAIRS
        words &= _PAIRS
        words += pairs
        words += words >> _S32
        total = words.astype(np.uint32).astype(np.float32).reshape(len(self.index), height, width)
        total -= np.float32(2 * 65535)
        total *= np.float32(1.0 / (65536.0 * np.sqrt(1 / 3)))
        return total

    def only(self, rows: npt.NDArray[np.intp]) -> Draws:
        """The same streams for a subset of the rows."""
        return Draws(self.seed, self.index[rows], self.space)
