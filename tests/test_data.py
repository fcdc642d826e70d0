"""Datasets, samplers and the DataLoader."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)

Pair = collections.namedtuple("Pair", "x y")


class Squares(Dataset):
    """A plain map-style dataset that counts what is asked of it."""

    def __init__(self, n):
        self.n, self.n_items = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not -self.n <= index < self.n:
            raise IndexError(index)
        self.n_items += 1
        return float(index) ** 2, index


class Bulk(Squares):
    """Squares with PyTorch's `__getitems__`."""

    n_bulk = 0

    def __getitem__(self, index):
        return super().__getitem__(index)

    def __getitems__(self, indices):
        self.n_bulk += 1
        return [(float(i) ** 2, i) for i in indices]


class CountedTensors(TensorDataset):
    """A TensorDataset that counts what is asked of it."""

    n_items = n_batches = 0

    def __getitem__(self, index):
        self.n_items += 1
        return super().__getitem__(index)

    def take(self, indices):
        self.n_batches += 1
        return super().take(indices)


def generator(seed=7):
    return sg.Generator().manual_seed(seed)


def tensors(n):
    return sg.arange(n * 3).view(n, 3), sg.arange(n)


@given(n=st.integers(1, 40), batch_size=st.integers(1, 12), drop_last=st.booleans(), shuffle=st.booleans())
def test_a_pass_gives_every_sample_once_in_batches_of_the_size_asked_for(n, batch_size, drop_last, shuffle):
    x, y = tensors(n)
    loader = DataLoader(TensorDataset(x, y), batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator())
    batches = list(loader)
    assert len(batches) == len(loader) == (n // batch_size if drop_last else -(-n // batch_size))
    sizes = [len(by) for _, by in batches]
    assert all(size == batch_size for size in sizes[:-1])
    seen = [i for _, by in batches for i in by.tolist()]
    assert len(set(seen)) == len(seen) == (n - n % batch_size if drop_last else n)
    if not shuffle:
        assert seen == sorted(seen)
    for bx, by in batches:
        assert bx.tolist() == x[by].tolist()


def test_a_batch_of_a_tensor_dataset_is_one_fancy_index():
    data = CountedTensors(*tensors(100))
    for _ in DataLoader(data, batch_size=20, shuffle=True):
        pass
    assert (data.n_batches, data.n_items) == (5, 0)
    for _ in DataLoader(Subset(Subset(data, range(80)), np.arange(0, 80, 2)), batch_size=20):
        pass
    assert (data.n_batches, data.n_items) == (7, 0)


def test_a_dataset_with_getitems_is_asked_once_a_batch():
    data = Bulk(12)
    batches = list(DataLoader(data, batch_size=5))
    assert (data.n_bulk, data.n_items) == (3, 0)
    assert batches[0][0].tolist() == [0, 1, 4, 9, 16]
    list(DataLoader(Subset(data, [3, 1]), batch_size=2, collate_fn=list))
    assert (data.n_bulk, data.n_items) == (4, 0)


def test_the_fast_path_gives_what_collating_samples_gives():
    data = TensorDataset(*tensors(11))
    for part in (data, Subset(data, [7, 0, 7, 3])):
        fast = list(DataLoader(part, batch_size=3))
        slow = list(DataLoader(part, batch_size=3, collate_fn=lambda samples: default_collate(samples)))
        assert [type(batch) for batch in fast] == [type(batch) for batch in slow] == [list] * len(fast)
        for one, other in zip(fast, slow, strict=True):
            for a, b in zip(one, other, strict=True):
                assert (a.tolist(), a.dtype, a.shape) == (b.tolist(), b.dtype, b.shape)


def test_a_subclass_that_overrides_getitem_is_not_passed_over():
    class Negated(TensorDataset):
        def __getitem__(self, index):
            return tuple(-t for t in super().__getitem__(index))

    (x, y), data = tensors(4), Negated(*tensors(4))
    for part in (data, Subset(data, range(4))):
        [(bx, by)] = DataLoader(part, batch_size=4)
        assert bx.tolist() == (-x).tolist()
        assert by.tolist() == (-y).tolist()


def test_gradients_flow_through_a_batch():
    x = sg.ones(4, 2, requires_grad=True)
    for (batch,) in DataLoader(TensorDataset(x), batch_size=3, sampler=[0, 2, 2]):
        batch.sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0], [2, 2], [0, 0]]


def test_shuffling_differs_from_pass_to_pass_and_repeats_with_the_seed():
    data = TensorDataset(sg.arange(50))

    def two_passes(loader):
        return [[i for (batch,) in loader for i in batch.tolist()] for _ in range(2)]

    first = two_passes(DataLoader(data, 8, shuffle=True, generator=generator()))
    assert first[0] != first[1]
    assert first == two_passes(DataLoader(data, 8, shuffle=True, generator=generator()))
    assert first != two_passes(DataLoader(data, 8, shuffle=True, generator=generator(8)))
    sg.manual_seed(3)
    drawn = two_passes(DataLoader(data, 8, shuffle=True))
    sg.manual_seed(3)
    assert drawn == two_passes(DataLoader(data, 8, shuffle=True))


def test_without_batches_samples_come_one_by_one_as_tensors():
    x = np.arange(6.0).reshape(3, 2)
    loader = DataLoader([{"x": row, "name": "row"} for row in x], batch_size=None)
    samples = list(loader)
    assert len(loader) == 3
    assert [s["x"].tolist() for s in samples] == x.tolist()
    assert samples[0]["name"] == "row"


def test_a_batch_sampler_says_what_is_in_each_batch():
    loader = DataLoader(Squares(9), batch_sampler=[[8, 0], [3]])
    assert [by.tolist() for _, by in loader] == [[8, 0], [3]]
    assert len(loader) == 2


def test_collate_fn_gets_the_list_of_samples():
    assert list(DataLoader(Squares(3), batch_size=2, collate_fn=list)) == [[(0.0, 0), (1.0, 1)], [(4.0, 2)]]


def test_default_collate_goes_by_the_type_of_the_first_sample():
    assert default_collate([1.5, 2.5]).dtype == sg.float64
    assert default_collate([1, 2]).dtype == sg.int64
    assert default_collate([True, False]).dtype == sg.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype == sg.float32
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([sg.ones(2), sg.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert default_collate([np.ones((1, 2), np.int32)] * 3).shape == (3, 1, 2)
    nested = default_collate([{"a": (1, Pair(2.0, [3]))}, {"a": (4, Pair(5.0, [6]))}])
    assert type(nested) is dict
    assert type(nested["a"]) is list
    number, pair = nested["a"]
    assert number.tolist() == [1, 4]
    assert isinstance(pair, Pair)
    assert pair.x.tolist() == [2, 5]
    assert [t.tolist() for t in pair.y] == [[3, 6]]
    kept = default_collate([collections.defaultdict(int, a=1)] * 2)
    assert isinstance(kept, collections.defaultdict)
    assert kept.default_factory is int


def test_default_convert_enters_what_default_collate_enters():
    made = default_convert((np.ones(2), "name", {"a": np.float32(2)}, Pair(np.zeros(1), 3)))
    assert made[0].tolist() == [1, 1]
    assert made[1] == "name"
    assert made[2]["a"].item() == 2
    assert isinstance(made[3], Pair)
    assert isinstance(made[3].x, sg.Tensor)
    assert made[3].y == 3


@given(data=st.data(), n=st.integers(0, 30))
def test_random_split_deals_out_every_sample_once(data, n):
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    lengths = [b - a for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    if sum(lengths) == 1:
        lengths = [1]
    parts = random_split(range(n), lengths, generator=generator())
    assert [len(part) for part in parts] == lengths
    assert sorted(i for part in parts for i in part) == list(range(n))
    again = random_split(range(n), lengths, generator=generator())
    assert [list(a) for a in parts] == [list(b) for b in again]


def test_random_split_rounds_fractions_down_and_deals_out_the_rest():
    assert [len(part) for part in random_split(range(11), [0.3, 0.3, 0.4])] == [4, 3, 4]
    with pytest.warns(UserWarning, match="part 1 is empty"):
        assert [len(part) for part in random_split(range(1), [0.5, 0.5])] == [1, 0]


def test_concatenated_datasets_are_numbered_through():
    both = Squares(3) + Squares(4)
    assert isinstance(both, ConcatDataset)
    assert len(both) == 7
    assert [i for _, i in both] == [0, 1, 2, 0, 1, 2, 3]
    assert both[-1] == (9.0, 3)
    assert both[-7] == (0.0, 0)
    [(bx, _)] = DataLoader(both, batch_size=7)
    assert bx.tolist() == [0, 1, 4, 0, 1, 4, 9]


def test_samplers():
    assert list(SequentialSampler("abc")) == [0, 1, 2]
    assert sorted(RandomSampler("abcdef")) == list(range(6))
    longer = RandomSampler("abc", num_samples=7, generator=generator())
    assert collections.Counter(list(longer)[:6]) == {0: 2, 1: 2, 2: 2}
    assert len(list(longer)) == len(longer) == 7
    drawn = list(RandomSampler("abc", replacement=True, num_samples=200, generator=generator()))
    assert set(drawn) == {0, 1, 2}
    assert sorted(SubsetRandomSampler([5, 3, 8])) == [3, 5, 8]
    assert len(SubsetRandomSampler([5, 3, 8])) == 3
    for drop_last, expected in ((False, [[0, 1], [2, 3], [4]]), (True, [[0, 1], [2, 3]])):
        batches = BatchSampler(range(5), 2, drop_last)
        assert list(batches) == expected
        assert len(batches) == len(expected)


BAD = [
    (lambda: DataLoader(Squares(3), num_workers=2), ValueError, "in-process only, num_workers must be 0, got 2"),
    (lambda: DataLoader(Squares(3), num_workers=-1), ValueError, "num_workers must be 0"),
    (lambda: DataLoader(Squares(3), batch_size=0), ValueError, "batch_size must be a positive integer, got 0"),
    (lambda: DataLoader(Squares(3), batch_size=2.0), ValueError, "batch_size must be a positive integer, got 2.0"),
    (lambda: DataLoader(Squares(3), batch_size=True), ValueError, "batch_size must be a positive integer, got True"),
    (lambda: DataLoader(Squares(3), drop_last=1), ValueError, "drop_last must be a bool, got 1"),
    (lambda: DataLoader(Squares(3), shuffle=True, sampler=[0]), ValueError, "exclude each other"),
    (lambda: DataLoader(Squares(3), 2, batch_sampler=[[0]]), ValueError, "batch_sampler excludes batch_size"),
    (lambda: DataLoader(Squares(3), batch_size=None, drop_last=True), ValueError, "excludes drop_last"),
    (lambda: DataLoader(Squares(0), shuffle=True), ValueError, "num_samples must be a positive integer, got 0"),
    (lambda: RandomSampler("ab", replacement=1), TypeError, "replacement must be a bool, got 1"),
    (lambda: RandomSampler("ab", num_samples=-1), ValueError, "num_samples must be a positive integer, got -1"),
    (lambda: TensorDataset(), ValueError, "at least one tensor"),
    (lambda: TensorDataset(sg.ones(3), sg.ones(2)), AssertionError, r"must be the same, got \[3, 2\]"),
    (lambda: ConcatDataset([]), AssertionError, "at least one dataset"),
    (lambda: (Squares(2) + Squares(1))[3], IndexError, "index 3 is out of range for 3 samples"),
    (lambda: (Squares(2) + Squares(1))[-4], ValueError, "index -4 is out of range for 3 samples"),
    (lambda: random_split(range(5), [2, 2]), ValueError, r"lengths \[2, 2\] add up to 4, the dataset has 5 samples"),
    (lambda: random_split(range(5), [6, -1]), ValueError, "must not be negative"),
    (lambda: random_split(range(5), [0.5, 0.4]), ValueError, "add up to"),
    (lambda: default_collate([object()]), TypeError, "found object"),
    (lambda: default_collate([np.array(["a"])]), TypeError, "found ndarray of <U1"),
    (lambda: default_collate([[1], [1, 2]]), RuntimeError, r"of one length, got lengths \[1, 2\]"),
    (lambda: default_collate([sg.ones(1), sg.ones(2)]), RuntimeError, "equal size"),
    (lambda: Dataset()[0], NotImplementedError, "must define __getitem__"),
    (lambda: iter(Sampler()), NotImplementedError, "must define __iter__"),
    (lambda: setattr(DataLoader(Squares(3)), "batch_size", 2), ValueError, "batch_size cannot be changed"),
    (lambda: list(DataLoader(TensorDataset(sg.ones(3)), sampler=[3])), IndexError, "out of"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_a_mistake_gets_pytorchs_exception_and_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
