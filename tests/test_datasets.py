"""Digits, MNIST and the files they come from."""

import gzip
import hashlib
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idx_files import idx, mnist_files

import scalargrad as sg
from scalargrad.datasets import MNIST, Digits, read_idx, resize
from scalargrad.utils.data import DataLoader, Subset

try:  # Imported here and not in a test, because it sets environment variables.
    import sklearn.datasets as scikit_learn
except ImportError:
    scikit_learn = None

PER_CLASS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
"""How many of each digit the description of the set (optdigits.names) counts in its test part."""


def test_digits_are_those_of_the_uci_set():
    digits = Digits(train=None)
    assert len(digits) == 1797
    assert digits.data.shape == (1797, 8, 8)
    assert (digits.data.dtype, digits.targets.dtype) == (sg.uint8, sg.int64)
    assert (int(digits.data.min()), int(digits.data.max())) == (0, 16)
    assert np.bincount(digits.targets.numpy()).tolist() == PER_CLASS
    # The first record of optdigits.tes, a zero.
    assert digits.data[0].flatten().tolist()[:16] == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    assert digits.targets[:10].tolist() == list(range(10))
    both = digits.data.numpy().tobytes() + digits.targets.numpy().astype(np.uint8).tobytes()
    assert hashlib.sha256(both).hexdigest() == DIGITS_SHA256


DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of all pixels and then all labels as bytes, taken from scikit-learn's copy when the file was made."""


@pytest.mark.skipif(scikit_learn is None, reason="compares with scikit-learn")
def test_digits_are_those_that_scikit_learn_ships():
    theirs = scikit_learn.load_digits()
    ours = Digits(train=None)
    assert np.array_equal(ours.data.numpy(), theirs.images)
    assert np.array_equal(ours.targets.numpy(), theirs.target)


def test_digits_are_small_and_carry_their_attribution():
    folder = files("scalargrad.datasets")
    assert (folder / "digits.npz").stat().st_size < 100_000
    text = (folder / "DIGITS_ATTRIBUTION.txt").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "UCI Machine Learning Repository", "https://doi.org/10.24432/C50P49"):
        assert words in text
        assert words in " ".join(Digits.__doc__.split())
    assert "CC BY 4.0" in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text


def test_the_held_out_digits_are_every_fifth_scan_of_each():
    everything, train, test = Digits(train=None), Digits(), Digits(train=False)
    assert (len(train), len(test)) == (1442, 355)
    for digit, n in enumerate(PER_CLASS):
        scans = everything.data.numpy()[everything.targets.numpy() == digit]
        held = test.data.numpy()[test.targets.numpy() == digit]
        kept = train.data.numpy()[train.targets.numpy() == digit]
        assert np.array_equal(held, scans[4::5])
        assert len(held) + len(kept) == n
    # No scan is in both parts, not even as a copy: all 1,797 differ.
    assert len(np.unique(everything.data.numpy().reshape(1797, 64), axis=0)) == 1797


def test_an_item_is_an_image_and_a_number_and_a_batch_is_a_stack_of_items():
    digits = Digits(train=False, size=32)
    image, target = digits[5]
    assert image.shape == (1, 32, 32)
    assert image.dtype == sg.float32
    assert type(target) is int
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    [(images, targets)] = DataLoader(Subset(digits, range(7)), batch_size=7)
    assert images.shape == (7, 1, 32, 32)
    assert images.dtype == sg.float32
    assert targets.tolist() == digits.targets[:7].tolist()
    np.testing.assert_allclose(images[5].numpy(), image.numpy(), rtol=0, atol=1e-6)
    assert Digits()[0][0].tolist() == [(Digits().data[0].double() / 16).tolist()]


def test_a_batch_of_images_is_one_fancy_index():
    class Counted(Digits):
        n_fetched = 0

        def _images(self, indices):
            self.n_fetched += 1
            return super()._images(indices)

    digits = Counted(train=False)
    for _ in DataLoader(Subset(digits, range(300)), batch_size=100):
        pass
    assert digits.n_fetched == 3


def test_transforms_are_applied_to_items_and_to_batches():
    plain = Digits(train=False)
    changed = Digits(train=False, transform=lambda image: image * 2, target_transform=lambda target: target + 100)
    image, target = changed[3]
    assert image.tolist() == (plain[3][0] * 2).tolist()
    assert target == plain[3][1] + 100
    images, targets = next(iter(DataLoader(changed, batch_size=4)))
    assert images[3].tolist() == image.tolist()
    assert targets[3].item() == target


def test_repr_says_what_there_is():
    assert repr(Digits()) == "Digits(1442 images of 8×8, 10 classes)"
    assert repr(Digits(train=False, size=32)) == "Digits(355 images of 32×32, 10 classes)"


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="size must be a positive integer or None"):
        Digits(size=size)


def bilinear(image, height, width):
    """One image scaled, pixel by pixel: the mean of four neighbours weighted by nearness."""

    def line(n_in, n_out):
        for i in range(n_out):
            at = max((i + 0.5) * n_in / n_out - 0.5, 0)
            yield int(at), min(int(at) + 1, n_in - 1), at - int(at)

    return [
        [
            (1 - u) * ((1 - v) * image[r][c] + v * image[r][d]) + u * ((1 - v) * image[s][c] + v * image[s][d])
            for c, d, v in line(len(image[0]), width)
        ]
        for r, s, u in line(len(image), height)
    ]


@given(h=st.integers(1, 9), w=st.integers(1, 9), p=st.integers(1, 12), q=st.integers(1, 12), seed=st.integers(0, 99))
def test_resize_mixes_the_four_nearest_pixels(h, w, p, q, seed):
    images = np.random.default_rng(seed).random((2, h, w))
    made = resize(images, (p, q))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [bilinear(image.tolist(), p, q) for image in images], atol=1e-5)


def test_resize_is_pytorchs_bilinear_interpolation():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).random((3, 1, 8, 9)).astype(np.float32)
    for size in ((32, 32), (28, 5), (8, 9)):
        theirs = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(resize(x, size), theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((8,), 4), ((2, 0, 8), 4), ((2, 8, 8), 0)])
def test_resize_refuses_what_has_no_sides(shape, size):
    with pytest.raises(ValueError, match="all sides positive"):
        resize(np.zeros(shape), size)


ELEMENTS = {0x08: np.uint8, 0x09: np.int8, 0x0B: np.int16, 0x0C: np.int32, 0x0D: np.float32, 0x0E: np.float64}


@given(
    code=st.sampled_from(sorted(ELEMENTS)),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    pack=st.sampled_from([bytes, gzip.compress]),
)
def test_read_idx_reads_what_was_written(tmp_path_factory, code, shape, seed, pack):
    array = np.random.default_rng(seed).integers(-100, 100, shape).astype(ELEMENTS[code])
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(pack(idx(array, code)))
    read = read_idx(path)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert read.dtype.isnative
    assert read.flags.writeable
    assert np.array_equal(read, array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
PACKED = gzip.compress(GOOD, mtime=0)  # the same bytes, and so the same names of tests, in every process
DAMAGED = [
    (b"", "not an IDX file: it begins with nothing"),
    (b"\x00\x00\x08", "not an IDX file"),
    (b"PK\x03\x04 a zip file", "not an IDX file: it begins with 50 4b 03 04"),
    (b"\x00\x00\x07\x01" + GOOD[4:], "not an IDX file"),
    (b"\x00\x00\x08\x00", "not an IDX file"),
    (GOOD[:9], "cut short: 2 dimensions need a header of 12 bytes, got 9"),
    (GOOD[:-1], r"cut short: uint8 of shape \(2, 3\) makes 18 bytes, got 17"),
    (GOOD + b"\x00", "bytes after the end"),
    (b"\x00\x00\x08\x02" + b"\xff" * 8 + b"\x01", "cut short"),
    (PACKED[:-3], "the gzip data is damaged or cut short"),
    (PACKED[:10] + b"\x00" * 20, "the gzip data is damaged or cut short"),
    (b"\x1f\x8b", "the gzip data is damaged or cut short"),
]


@pytest.mark.parametrize(("raw", "message"), DAMAGED)
def test_a_damaged_idx_file_is_refused_by_name(tmp_path, raw, message):
    path = tmp_path / "damaged"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["{part}-{what}-idx{dims}-ubyte", "{part}-{what}.idx{dims}-ubyte"])
@pytest.mark.parametrize("folder", [".", "MNIST/raw"])
def test_mnist_is_found_under_every_name_it_is_distributed_under(tmp_path, folder, name, pack):
    name += ".gz" if pack is gzip.compress else ""
    held = mnist_files(tmp_path / folder, name=name, pack=pack)
    for train, part in ((True, "train"), (False, "t10k")):
        mnist = MNIST(tmp_path, train=train, size=32)
        images, labels = held[part]
        assert np.array_equal(mnist.data.numpy(), images)
        assert np.array_equal(mnist.targets.numpy(), labels)
        image, target = mnist[1]
        assert image.shape == (1, 32, 32)
        assert target == labels[1]
    assert MNIST(tmp_path)[0][0].shape == (1, 28, 28)
    np.testing.assert_allclose(MNIST(str(tmp_path))[0][0].numpy()[0], held["train"][0][0] / 255, atol=1e-6)


def test_a_missing_mnist_file_is_named_with_all_that_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a directory"):
        MNIST(tmp_path / "nowhere")
    mnist_files(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert len(MNIST(tmp_path)) == 6
    with pytest.raises(FileNotFoundError) as caught:
        MNIST(tmp_path, train=False)
    for words in ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte.gz", str(tmp_path), "raw"):
        assert words in str(caught.value)


WRONG = [
    ("images", np.zeros((5, 28, 28), np.uint8), 0x08, "5 images in .*, but 6 labels in"),
    ("images", np.zeros(6, np.uint8), 0x08, r"images are uint8 in 3 dimensions.*holds uint8 of shape \(6,\)"),
    ("images", np.zeros((6, 28, 28), np.int8), 0x09, "images are uint8 in 3 dimensions.*holds int8"),
    ("images", np.zeros((0, 28, 28), np.uint8), 0x08, "none empty"),
    ("labels", np.zeros((6, 1), np.uint8), 0x08, r"labels are uint8 in 1 dimensions.*shape \(6, 1\)"),
    ("labels", np.array([0, 1, 2, 3, 4, 10], np.uint8), 0x08, "labels run from 0 to 9, got 10"),
]


@pytest.mark.parametrize(("what", "array", "code", "message"), WRONG)
def test_mnist_files_that_do_not_hold_mnist_are_refused(tmp_path, what, array, code, message):
    mnist_files(tmp_path)
    (tmp_path / f"train-{what}-idx{3 if what == 'images' else 1}-ubyte").write_bytes(idx(array, code))
    with pytest.raises(ValueError, match=message):
        MNIST(tmp_path)
