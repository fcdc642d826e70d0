"""The number of threads is never seen in a result, and threads and forks do no harm."""

import os
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from scalargrad import kernels


def large_calls(k, draw):
    """Calls well above the size from which kernels use threads."""
    same = ((1, 1), (1, 1), (1, 1), 1)
    x, w, g = draw(9, 8, 32, 33), draw(24, 8, 3, 3), draw(9, 24, 32, 33)
    wide_w, wide_g = draw(56, 16, 3, 3), draw(5, 56, 16, 16)
    maps = draw(40, 16, 64, 64)
    pool, pool3 = ((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1))
    offsets = k.max_pool2d(maps, *pool3, False)[1]
    a, b, row, matrix, long, stack = (
        draw(301, 200), draw(200, 203), draw(3, 1500), draw(1501, 1500).T, draw(3500, 70), draw(21, 90, 90)
    )  # fmt: skip
    one_x, one_w, one_g = draw(1, 48, 20, 21), draw(70, 48, 3, 3), draw(1, 70, 20, 21)
    each, deep, down = draw(16, 1, 3, 3), ((1, 1), (1, 1), (1, 1), 16), ((2, 2), (1, 1), (1, 1), 16)
    longest, samples, features = draw(22, 50_000), draw(2100, 60), draw(2100, 50)
    few, two, wide, tall = draw(30, 500), draw(2, 2600), draw(500, 481), draw(2600, 1040)
    wide_x = draw(5, 16, 16, 16)
    return {
        "matmul": lambda: k.matmul(a, b),
        "matmul of few rows": lambda: k.matmul(row, matrix),
        "matmul with long sums": lambda: k.matmul(long.T, long),
        "matmul of stacks": lambda: k.matmul(stack, stack),
        "matrix times column": lambda: k.matmul(matrix.T, row[0]),
        # A share of it has as few rows as are worth another method: the method must be chosen for the whole.
        "linear with long sums": lambda: k.linear(longest[:12], longest[12:], None),
        "linear": lambda: k.linear(a, b.T, None),
        "linear with bias and relu": lambda: k.linear(a, b.T, b[0], True),
        "linear_input_grad": lambda: k.linear_input_grad(a, b),
        "linear_weight_grad": lambda: k.linear_weight_grad(samples, features),
        # Shares of its columns end in other panels than the whole does.
        "matmul of few rows as they lie": lambda: k.matmul(few, wide),
        "matmul of two rows": lambda: k.matmul(two, tall),
        "matmul with rows pages apart": lambda: k.matmul(tall[:64].T, tall[:64]),
        "conv2d": lambda: k.conv2d(x, w, None, *same),
        "conv2d_input_grad": lambda: k.conv2d_input_grad(g, w, x.shape, *same),
        "conv2d_weight_grad": lambda: k.conv2d_weight_grad(g, x, w.shape, *same),
        "conv2d with channels in lanes": lambda: k.conv2d(wide_x, wide_w, None, *same),
        "its input's gradient": lambda: k.conv2d_input_grad(wide_g, wide_w, wide_x.shape, *same),
        "its weights' gradient": lambda: k.conv2d_weight_grad(wide_g, wide_x, wide_w.shape, *same),
        "conv2d of one image": lambda: k.conv2d(one_x, one_w, one_w[:, 0, 0, 0], *same, True),
        "its input's gradient, one image": lambda: k.conv2d_input_grad(one_g, one_w, one_x.shape, *same),
        "its weights' gradient, one image": lambda: k.conv2d_weight_grad(one_g, one_x, one_w.shape, *same),
        "depthwise conv2d": lambda: k.conv2d(maps, each, None, *deep),
        "its depthwise input's gradient": lambda: k.conv2d_input_grad(maps, each, maps.shape, *deep),
        "its strided input's gradient": lambda: k.conv2d_input_grad(maps[:, :, ::2, ::2], each, maps.shape, *down),
        "its depthwise weights' gradient": lambda: k.conv2d_weight_grad(maps, maps, each.shape, *deep),
        "sum_by_channel": lambda: k.sum_by_channel(maps),
        "max_pool2d": lambda: k.max_pool2d(maps, *pool, False)[0],
        "its offsets": lambda: k.max_pool2d(maps, *pool, False)[1],
        "overlapping max_pool2d": lambda: k.max_pool2d(maps, *pool3, False)[1],
        "its gradient": lambda: k.max_pool2d_input_grad(maps[:, :, ::2, ::2], offsets, maps.shape, *pool3),
        "avg_pool2d": lambda: k.avg_pool2d(maps, *pool3[:3], False, True, None),
        "relu": lambda: k.relu(maps),
        "select": lambda: k.select(maps > 0, maps),
        "sigmoid_grad": lambda: k.sigmoid_grad(maps, maps),
        "log_softmax": lambda: k.log_softmax(maps, -1),
        **{name: partial(stepped, k, name, maps) for name in ("sgd_step", "adam_step", "rmsprop_step")},
    }


def stepped(k, name, maps):
    """Parameters after a step; one is large enough for threads, and ends within a vector."""
    numbers = np.abs(maps).ravel()
    lists = [[numbers[i : i + n] + i for n in (7, 650_003, 5000)] for i in range(5)]
    common = {"lr": 0.1, "weight_decay": 0.1, "maximize": True}
    if name == "sgd_step":
        k.sgd_step(*lists[:3], momentum=0.9, dampening=0, nesterov=True, first=False, **common)
    elif name == "adam_step":
        betas = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
        k.adam_step(*lists, step=2, amsgrad=True, decoupled=True, **betas, **common)
    else:
        k.rmsprop_step(*lists, alpha=0.9, eps=1e-8, momentum=0.9, centered=False, **common)
    return np.concatenate([array for arrays in lists for array in arrays])


@pytest.mark.skipif(kernels.available() == ("numpy",), reason="only compiled kernels have threads")
@pytest.mark.parametrize("isa", [isa for isa in kernels.available() if isa != "numpy"])
def test_the_same_bits_come_out_for_any_number_of_threads(isa, draw, threads):
    k = kernels.load(isa)
    for name, call in large_calls(k, draw).items():
        with threads(1):
            expected = call().tobytes()
        for n in (2, 3, 4, 7):
            with threads(n):
                assert call().tobytes() == expected, f"{name} with {n} threads"


def test_calls_from_several_python_threads_do_not_disturb_each_other(k, draw, threads):
    same = ((1, 1), (1, 1), (1, 1), 1)
    jobs = []
    for i in range(4):
        x, w, g = draw(2, 3, 17 + i, 19), draw(8, 3, 3, 3), draw(2, 8, 17 + i, 19)
        jobs += [
            partial(k.conv2d, x, w, None, *same),
            partial(k.conv2d_weight_grad, g, x, w.shape, *same),
            partial(k.matmul, draw(60 + i, 70), draw(70, 50)),
        ]
    expected = [job().tobytes() for job in jobs]
    wrong: list[int] = []

    def work(first: int) -> None:
        for turn in range(40):
            i = (first + turn) % len(jobs)
            if jobs[i]().tobytes() != expected[i]:
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(3 * i,)) for i in range(4)]
    with threads(2):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


FORK = """
import os, numpy as np
from scalargrad import kernels
x, w = np.ones((16, 8, 32, 32), np.float32), np.ones((32, 8, 3, 3), np.float32)
call = lambda: kernels.conv2d(x, w, None, (1, 1), (1, 1), (1, 1), 1).sum()
kernels.set_num_threads(2)
expected = call()
child = os.fork()
if child == 0:
    alone = call() == expected and kernels.get_num_threads() == 1
    kernels.set_num_threads(2)  # a team of its own
    os._exit(0 if alone and call() == expected else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert kernels.get_num_threads() == (2 if kernels.isa != "numpy" else 1)
print("parent and child agree")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_child_computes_with_one_thread():
    # Threads do not survive a fork: a child that counted on its parent's would hang, which the timeout would show.
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60)
    assert run.stdout == "parent and child agree\n", run.stderr


@pytest.mark.parametrize("n", [0, -1])
def test_set_num_threads_refuses_less_than_one(n):
    with pytest.raises(RuntimeError, match=rf"set_num_threads\(\): expected a positive integer, got {n}"):
        kernels.set_num_threads(n)


@pytest.mark.parametrize("n", [1.0, "2", None, True])
def test_set_num_threads_refuses_what_is_no_integer(n):
    with pytest.raises(TypeError, match="set_num_threads"):
        kernels.set_num_threads(n)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SCALARGRAD_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({"SCALARGRAD_NUM_THREADS": "many"}, None),
    ],
)
def test_the_environment_sets_the_first_number_of_threads(monkeypatch, environment, expected):
    for name in ("SCALARGRAD_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    from_machine = kernels.threads.default_num_threads()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert kernels.threads.default_num_threads() == (expected or from_machine)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 1 << 16),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1 << 16),
        ({"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, 4),
        ({"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "200000 100000\n", "c/cpu.max": "100000 100000\n"}, 2),
        ({"cpu/a/b/cpu.cfs_quota_us": "300000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, 3),
        ({}, 1 << 16),
    ],
)
def test_the_quotas_of_the_control_groups_around_a_process_count_as_whole_cpus(tmp_path, files, expected):
    for name, text in {**files, "membership": "4:memory:/elsewhere\n0::/a/b\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    assert kernels.threads._cpus_in_quota(str(tmp_path), str(tmp_path / "membership")) == expected


def test_two_cpus_of_one_core_count_once(tmp_path):
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
    assert kernels.threads._cores_in_mask([0, 1, 2, 3], str(tmp_path)) == 2
    assert kernels.threads._cores_in_mask([0, 2], str(tmp_path)) == 1
    assert kernels.threads._cores_in_mask([1, 4, 5], str(tmp_path)) == 3  # of the last two nothing is known


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform has no affinity masks")
def test_the_first_number_of_threads_follows_the_affinity_mask():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from scalargrad.kernels import threads; print(threads.default_num_threads())"
    )
    environment = {n: v for n, v in os.environ.items() if n not in ("SCALARGRAD_NUM_THREADS", "OMP_NUM_THREADS")}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert shown.stdout == "1\n", shown.stderr


def test_concurrent_large_calls_share_the_team_and_give_the_same_bits(draw, threads):
    """One of them has the team, the others do without it: none waits for another, and none sees another's work."""
    a = [draw(230 + i, 300) for i in range(4)]
    x, w = draw(16, 8, 32, 32), draw(32, 8, 3, 3)
    jobs = [partial(kernels.matmul, m, m.T) for m in a] + [
        partial(kernels.conv2d, x[i:], w, None, (1, 1), (1, 1), (1, 1), 1) for i in range(4)
    ]
    with threads(1):
        expected = [job().tobytes() for job in jobs]
    results: list[list[bytes]] = [[] for _ in range(4)]

    def work(worker: int) -> None:
        for turn in range(16):
            results[worker].append(jobs[(worker + turn) % len(jobs)]().tobytes())

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    with threads(3):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for i, got in enumerate(results):
        assert got == [expected[(i + turn) % len(jobs)] for turn in range(16)]


def test_the_largest_thread_counts_are_harmless(draw, threads):
    a = draw(300, 300)
    with threads(10**6):
        np.testing.assert_allclose(kernels.matmul(a, a), a @ a, rtol=1e-3, atol=1e-3)
