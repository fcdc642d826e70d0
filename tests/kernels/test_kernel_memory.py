"""Kernels read and write their arrays and nothing else, whatever the sizes; and where memory ends they say so.

Arrays are laid between pages that the processor lets nobody touch, in a surrounding of NaN: a vector that reaches past
an end stops the process, and one that reads NaN before it must really have ignored it.
SCALARGRAD_DRAWS sets how many calls are drawn of each kernel; `tools/sanitize_kernels.py` draws a thousand.
"""

import ctypes
import gc
import mmap
import os
import re
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
from kernel_cases import ELSEWHERE, Draw, contract, drawing, same
from numpy._core.multiarray import get_handler_name

from scalargrad import kernels
from scalargrad.kernels import memory as own_memory

N_DRAWS = int(os.environ.get("SCALARGRAD_DRAWS", "4"))
PROT_NONE = 0
NAMES = sorted(set(contract()) - ELSEWHERE)
COMPILED = [isa for isa in kernels.available() if isa != "numpy"]


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy that ends where an untouchable page begins, or begins where one ends."""
    if sys.platform == "win32":
        return array.copy()
    n_pages = -(-array.nbytes // mmap.PAGESIZE) or 1
    memory = mmap.mmap(-1, (n_pages + 2) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    inside = np.frombuffer(memory, np.uint8)[mmap.PAGESIZE : (n_pages + 1) * mmap.PAGESIZE]
    inside.view(np.float32)[...] = np.nan
    copy = inside[inside.size - array.nbytes :] if at_end else inside[: array.nbytes]
    copy = copy.view(array.dtype).reshape(array.shape)
    copy[...] = array
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (0, n_pages + 1):
        address = ctypes.c_void_p(start + page * mmap.PAGESIZE)
        if protect(address, ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    return copy


@pytest.mark.parametrize("isa", COMPILED)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_touches_its_arrays_only_and_agrees_with_plain_numpy(isa, dtype, name):
    k, draw_case = kernels.load(isa), drawing(name)
    assert draw_case is not None, f"tests/kernels/kernel_cases.py does not know how to draw arguments for {name}"
    plain = kernels.load("numpy")
    for seed in range(N_DRAWS):
        case = draw_case(Draw(seed, dtype))
        expected = case.call(plain, *[array.copy() for array in case.arrays])
        for at_end in (True, False):
            arrays = [guarded(array, at_end) for array in case.arrays]
            got = case.call(k, *arrays)
            assert same(got, expected, dtype), (seed, str(case))
            if not case.writes:
                assert all(a.tobytes() == b.tobytes() for a, b in zip(arrays, case.arrays, strict=True)), str(case)


def far_apart(array: np.ndarray) -> np.ndarray:
    """A copy whose rows lie 2³⁰ numbers apart, in memory that is only there where it is touched."""
    apart = (2**30 + 3) * array.itemsize
    no_reserve = 0x4000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    memory = np.frombuffer(mmap.mmap(-1, len(array) * apart, flags=flags), np.uint8)
    first = memory[: array.dtype.itemsize].view(array.dtype)
    strides = (apart, *np.empty(array.shape[1:], array.dtype).strides)
    copy = np.lib.stride_tricks.as_strided(first, array.shape, strides)
    copy[...] = array
    return copy


@pytest.mark.skipif(sys.platform != "linux", reason="memory that is promised and not there, as on Linux")
@pytest.mark.parametrize("isa", COMPILED)
@pytest.mark.parametrize("name", NAMES)
def test_places_beyond_the_reach_of_32_bits_are_found(isa, dtype, name):
    k, plain = kernels.load(isa), kernels.load("numpy")
    for seed in range(2):
        case = drawing(name)(Draw(seed, dtype))
        expected = case.call(plain, *[array.copy() for array in case.arrays])
        arrays = [far_apart(a) if a.ndim and 2 <= len(a) <= 7 and a.size else a.copy() for a in case.arrays]
        assert same(case.call(k, *arrays), expected, dtype), (seed, str(case))


def test_an_accumulation_of_overlapping_memory_counts_what_was_there_before(k, dtype, draw):
    for n in (5, 40, 300):
        for shift in (0, 1, 3, 16):
            memory = draw(n + shift)
            expected = memory[shift:] + memory[:n]
            k.accumulate(memory[shift:], memory[:n])
            np.testing.assert_array_equal(memory[shift:], expected)
            memory = draw(n + shift)
            expected = memory[:n] + memory[shift:]
            k.accumulate(memory[:n], memory[shift:])
            np.testing.assert_array_equal(memory[:n], expected)


def test_a_large_result_owns_its_memory_like_any_other_array(k, draw):
    y = k.relu(draw(300, 300))
    first = y[0].copy()
    y.resize((400, 300), refcheck=False)
    np.testing.assert_array_equal(y[0], first)
    assert not y[300:].any()
    np.testing.assert_array_equal(np.pad(y, 1)[1:-1, 1:-1], y)


@pytest.mark.parametrize("is_own", [own_memory.is_own, own_memory._is_own], ids=["in use", "in NumPy"])
def test_an_array_is_its_own_if_it_is_like_this_and_has_its_memory_to_itself(is_own):
    x = np.ones((2, 3), np.float32)
    assert is_own(x, (2, 3), np.dtype(np.float32))
    assert is_own(np.ones((), np.float64), (), np.dtype(np.float64))
    for other in (np.ones((2, 3)), np.ones((3, 2), np.float32), np.ones(6, np.float32), np.ones((2, 3, 1), np.float32)):
        assert not is_own(other, (2, 3), np.dtype(np.float32))
    for derived in (x[:], x.view(np.ma.MaskedArray), np.float32(1), [1.0], None):
        assert not is_own(derived, getattr(derived, "shape", ()), np.dtype(np.float32))
    assert not is_own(np.ones((3, 2), np.float32).T.copy("F"), (2, 3), np.dtype(np.float32))


@pytest.mark.parametrize("references", [own_memory.references, own_memory._references], ids=["in use", "in NumPy"])
def test_references_are_counted_to_arrays_of_their_own_memory_alone(references):
    x = np.ones((2, 3), np.float32)
    before = references(x)
    assert before > 0
    others = [x, x]
    assert references(x) == before + len(others)
    watching = weakref.ref(x)
    assert references(x) == -1
    del watching
    assert references(x) == before + len(others)
    for other in (x[:], x.T, np.float32(1), None):
        assert references(other) == -1


@pytest.fixture
def pool():
    """The compiled kernels' pool, emptied, and nothing in it that the garbage collector frees meanwhile."""
    if not COMPILED:
        pytest.skip("the pool is a compiled module")
    from scalargrad.kernels import _pool

    gc.collect()
    gc.disable()
    _pool.empty_pool()
    yield _pool
    gc.enable()


def test_the_pool_holds_at_most_twice_what_was_in_use(pool, draw):
    k = kernels.load(COMPILED[0])
    for n in (100, 700, 300, 500, 100):
        x = draw(n, n)
        several = [k.relu(x) for _ in range(4)]
        in_use, kept, most = pool.pool_sizes()
        assert in_use >= 4 * x.nbytes
        assert in_use + kept <= 2 * most
        del several
        in_use, kept, most = pool.pool_sizes()
        assert in_use + kept <= 2 * most
    pool.empty_pool()
    assert pool.pool_sizes()[1] == 0


def test_an_array_of_the_pool_is_an_array_like_any_other(pool, dtype, draw):
    k = kernels.load(COMPILED[0])
    x = k.relu(draw(30, 20))
    assert get_handler_name(x) == "scalargrad_pool"
    assert x.ctypes.data % 64 == 0
    assert x.base is None
    assert all(x.flags[name] for name in ("OWNDATA", "WRITEABLE", "ALIGNED", "C_CONTIGUOUS"))
    in_use = pool.pool_sizes()[0]
    first = x[0].copy()
    x.resize((60, 40), refcheck=False)
    assert get_handler_name(x) == "scalargrad_pool"
    assert pool.pool_sizes()[0] >= in_use + 3 * 600 * x.itemsize
    assert x.ravel()[:20].tolist() == first.tolist()
    del x
    assert pool.pool_sizes()[0] < in_use
    assert get_handler_name(k.relu(draw(10))) == "default_allocator"


def test_tracemalloc_sees_the_pool(pool, draw):
    def traced():
        of_numpy = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([of_numpy]).traces)

    k, x = kernels.load(COMPILED[0]), draw(100, 100)
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before = traced()
        y = k.relu(x)
        assert traced() == before + x.nbytes
        del y
        assert traced() == before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def test_many_small_results_do_not_make_the_pool_forget_a_large_one(pool, draw):
    k = kernels.load(COMPILED[0])
    large, small = draw(1500, 1500), draw(30, 20)
    k.relu(large)
    for _ in range(3 * 4096):
        k.relu(small)
    assert pool.pool_sizes()[1] > large.nbytes


def test_memory_of_sizes_that_do_not_exist_is_refused_as_numpy_refuses_it(dtype):
    for shape in ((2**70,), (2**40, 2**40), (-1,), (1,) * 65):
        with pytest.raises(ValueError, match=r".") as theirs:
            np.empty(shape, dtype)
        with pytest.raises(ValueError, match=re.escape(str(theirs.value))):
            own_memory.empty(shape, np.dtype(dtype))
    objects = own_memory.empty((1000,), np.dtype(object))
    assert objects[7] is None


def test_the_pool_forgets_a_large_batch(pool, draw):
    k = kernels.load(COMPILED[0])
    k.relu(draw(1500, 1500))
    small = draw(100, 100)
    k.relu(small)
    assert pool.pool_sizes()[1] > draw(1500, 1500).nbytes
    for _ in range(3 * 4096):
        k.relu(small)
    in_use, kept, most = pool.pool_sizes()
    assert most < in_use + 10 * small.nbytes
    assert kept < most + 10 * small.nbytes


def test_a_request_that_no_machine_can_grant_leaves_the_pool_as_it_was(pool, dtype, draw):
    k = kernels.load(COMPILED[0])
    kept_array = k.relu(draw(200, 200))
    before = pool.pool_sizes()
    one = np.ones(1, dtype)
    with pytest.raises(MemoryError):
        k.matmul(np.broadcast_to(one, (2**23, 1)), np.broadcast_to(one, (1, 2**24)))
    assert pool.pool_sizes() == before
    assert (k.relu(kept_array) == kept_array).all()


WITHOUT_MEMORY = """
import resource
import numpy as np
from scalargrad import kernels
if kernels.isa == "numpy":
    empty_pool = lambda: None
else:
    from scalargrad.kernels._pool import empty_pool

def large_calls():
    f = lambda *shape: np.ones(shape, np.float32)
    same, pool = ((1, 1), (1, 1), (1, 1), 1), ((3, 3), (2, 2), (1, 1), (1, 1))
    x, w, g = f(4, 8, 200, 150), f(8, 8, 3, 3), f(4, 8, 200, 150)
    offsets = kernels.max_pool2d(x, *pool, False)[1]
    windows, a, b = x[:, :, ::2, ::2], f(1200, 700), f(700, 1200)
    long, ones = f(64, 90000), f(64)
    strided, states = [f(700, 2 * 1200)[:, ::2]], [[f(700, 1200)] for _ in range(3)]
    adam = dict(step=1, lr=0.1, beta1=0.9, beta2=0.9, eps=1, weight_decay=0)
    return {
        "conv2d": lambda: kernels.conv2d(x, w, None, *same),
        "conv2d_input_grad": lambda: kernels.conv2d_input_grad(g, w, x.shape, *same),
        "conv2d_weight_grad": lambda: kernels.conv2d_weight_grad(g, x[..., ::-1], w.shape, *same),
        "max_pool2d": lambda: kernels.max_pool2d(x, *pool, False)[0],
        "max_pool2d_input_grad": lambda: kernels.max_pool2d_input_grad(windows, offsets, x.shape, *pool),
        "avg_pool2d_input_grad": lambda: kernels.avg_pool2d_input_grad(windows, x.shape, *pool[:3], False, True, None),
        "matmul": lambda: kernels.matmul(a, b),
        "matmul transposed": lambda: kernels.matmul(b.T, a.T),
        "linear": lambda: kernels.linear(a, a, None),
        "relu": lambda: kernels.relu(x),
        "log_softmax": lambda: kernels.log_softmax(x, 3),
        "normalize": lambda: kernels.normalize(x, None, None, (1, 2), 0, 1.0)[0],
        "normalize_grads": lambda: kernels.normalize_grads(long, long, None, ones, ones, (1, 2), 1, 2)[0],
        "adam_step": lambda: kernels.adam_step(
            strided, *states, None, amsgrad=False, maximize=False, decoupled=False, **adam
        ) or np.zeros(1),
    }

def virtual_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

calls = large_calls()
before = {name: call().sum(dtype=np.float64) for name, call in calls.items()}
empty_pool()
refused = set()
for name, call in calls.items():
    for margin in (1, 2):
        resource.setrlimit(resource.RLIMIT_AS, (virtual_bytes() + margin * 2**20, resource.RLIM_INFINITY))
        try:
            call()
        except MemoryError:
            refused.add(name)
        assert kernels.relu(np.full(5, -1, np.float32)).tolist() == [0] * 5
        assert kernels.matmul(np.ones((3, 4)), np.ones((4, 2))).tolist() == [[4, 4]] * 3
        empty_pool()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert {name: call().sum(dtype=np.float64) for name, call in calls.items()} == before
print(*(name for name in calls if name not in refused), sep=", ")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as on Linux")
def test_where_memory_ends_there_is_a_memory_error_and_everything_goes_on():
    environment = {
        **os.environ,
        # What is freed goes back to the system, so that the limit is felt.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 17),
        "SCALARGRAD_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", WITHOUT_MEMORY]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "\n", f"never refused: {run.stdout}"


# What may be counted in 32 bits: axes, parts of a tile, options, what a call returns.
SMALL = set(
    "axis a_ndim b_ndim extra moving n_kept n_left ndim op options requirements status typenum team_size wanted".split()
)
SMALL |= set("i j k m n r s f cut first n_k n_lanes n_parts n_rows n_sums n_vectors stride vector".split())


def test_no_size_and_no_place_in_an_array_is_counted_in_32_bits():
    narrow = r"(?:unsigned )?(?:int|long|short|int32_t|uint32_t)"
    variables = re.compile(rf"^ *cdef {narrow} (\w[^()\n]*)$", re.M)
    arguments = re.compile(rf"[(,] *{narrow} (\w+)")
    found = set()
    for path in Path(kernels.__file__).parent.glob("*.px[id]"):
        cython = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)  # leaves out C, and docstrings
        cython = re.sub(r"^cdef extern .*?(?=^\S)", "", cython, flags=re.S | re.M)
        names = [name for declared in variables.findall(cython) for name in declared.split(",")]
        found |= {(name.split("=")[0].strip(" *"), path.name) for name in [*names, *arguments.findall(cython)]}
    assert ("n_vectors", "tile.pxi") in found or ("n_vectors", "gemm.pxi") in found
    assert not sorted((name, file) for name, file in found if name not in SMALL)
