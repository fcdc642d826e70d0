"""Writes small IDX files, for the tests that read them."""

import numpy as np


def idx(array, code=0x08):
    """The bytes of an IDX file, written as its description says."""
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def mnist_files(folder, n_train=6, n_test=3, side=28, name="{part}-{what}-idx{dims}-ubyte", pack=bytes):
    """Four small files of random images, and what is in them."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    held = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, side, side), np.uint8)
        labels = rng.integers(0, 10, n, np.uint8)
        held[part] = images, labels
        for what, array in (("images", images), ("labels", labels)):
            (folder / name.format(part=part, what=what, dims=array.ndim)).write_bytes(pack(idx(array)))
    return held
