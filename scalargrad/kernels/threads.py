"""How many threads the compiled kernels use: the one piece of state this package has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

# More threads than this gain nothing.
LARGEST_TEAM = 256

_lock = threading.Lock()
_count = 1
_listeners: list[Callable[[int], None]] = []


def get_num_threads() -> int:
    """Threads that a large kernel call uses. Always 1 where there are no POSIX threads, or no compiled kernels."""
    return _count if _listeners else 1


def set_num_threads(n: int) -> None:
    """Lets large kernel calls use `n` threads. Results do not depend on it, to the last bit.

    Raises RuntimeError unless `n` is at least 1.
    """
    global _count
    if type(n) is not int:
        raise TypeError(f"set_num_threads(): expected an integer, got {n!r}")
    if n < 1:
        raise RuntimeError(f"set_num_threads(): expected a positive integer, got {n}")
    with _lock:
        _count = n
        for listener in _listeners:
            listener(min(n, LARGEST_TEAM))


def follow(listener: Callable[[int], None]) -> None:
    """Tells a compiled module the number of threads, now and at every change."""
    with _lock:
        if listener not in _listeners:
            _listeners.append(listener)
            listener(min(_count, LARGEST_TEAM))


def default_num_threads() -> int:
    """SCALARGRAD_NUM_THREADS or OMP_NUM_THREADS if set to a positive number, else the cores this process may use."""
    for variable in ("SCALARGRAD_NUM_THREADS", "OMP_NUM_THREADS"):
        # OMP_NUM_THREADS may be a list, one number for each level of nesting: the first is ours.
        text = os.environ.get(variable, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            return int(text)
    return max(1, min(_cores_in_mask(), _cpus_in_quota()))


def _cores_in_mask(cpus: Iterable[int] | None = None, root: str = "/sys/devices/system/cpu") -> int:
    """The cores behind the CPUs that this process may use: two threads on one core share its multipliers."""
    if cpus is None:
        if not hasattr(os, "sched_getaffinity"):
            return os.cpu_count() or 1
        cpus = os.sched_getaffinity(0)
    cores = set()
    for cpu in cpus:
        try:
            cores.add(" ".join(_fields(f"{root}/cpu{cpu}/topology/thread_siblings_list")))
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _cpus_in_quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int:
    """CPUs that this process's time quota is worth, rounded up; a large number where there is no quota.

    A control group's quota binds all groups in it. In a container the tree often begins at the container's own group.
    """
    groups = {""}
    try:
        with open(membership) as file:
            for line in file:
                names = line.strip().split(":", 2)[-1].strip("/").split("/")
                groups |= {"/".join(names[:depth]) for depth in range(1, len(names) + 1)}
    except OSError:
        pass  # no control groups here, or nothing to read about them
    smallest = 1 << 16
    for group in groups:
        for paths in (
            (f"{root}/{group}/cpu.max",),
            (f"{root}/cpu/{group}/cpu.cfs_quota_us", f"{root}/cpu/{group}/cpu.cfs_period_us"),
        ):
            try:
                fields = [field for path in paths for field in _fields(path)]
                quota, period = int(fields[0]), int(fields[1])
            except (OSError, ValueError, IndexError):
                continue  # no such control group, or "max": no quota
            if quota > 0 and period > 0:
                smallest = min(smallest, -(-quota // period))
    return smallest


def _fields(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()


def _use_one_thread_after_fork() -> None:
    # A forked child is most often one of many, and has none of its parent's threads; whoever wants more says so. The
    # lock is new because another thread may have held it at the moment of the fork.
    global _lock
    _lock = threading.Lock()
    set_num_threads(1)


set_num_threads(default_num_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread_after_fork)
