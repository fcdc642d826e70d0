"""The IDX format, in which MNIST is distributed."""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Element types by the third byte of the magic number. Numbers are big-endian."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """The array in an IDX file, gzipped or not.

    The format: two zero bytes, a byte for the element type, a byte for the number of dimensions, each dimension as a
    big-endian 32-bit number, then the elements in row order (http://yann.lecun.com/exdb/mnist, "the IDX file format").
    Raises ValueError if the file is anything else, is cut short or goes on after the last element.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: the gzip data is damaged or cut short ({error})") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in DTYPES or raw[3] == 0:
        raise ValueError(f"{path}: not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}")
    n_dims = raw[3]
    start = 4 + 4 * n_dims
    if len(raw) < start:
        raise ValueError(f"{path}: cut short: {n_dims} dimensions need a header of {start} bytes, got {len(raw)}")
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(n_dims))
    dtype = np.dtype(DTYPES[raw[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        what = "cut short" if len(raw) < expected else "bytes after the end"
        raise ValueError(f"{path}: {what}: {dtype.name} of shape {shape} makes {expected} bytes, got {len(raw)}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
