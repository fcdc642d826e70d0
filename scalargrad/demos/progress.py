"""How far a demo has come: a bar where tqdm is installed, lines where it is not."""

import sys
import time
from typing import Any

EVERY_S = 5.0
"""Without a bar, how long a demo may go on in silence."""


def _bar(total: int, done: int, unit: str) -> Any:
    """A tqdm bar, or None if tqdm is not installed or nobody is at the terminal to watch one."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    if not sys.stderr.isatty():
        return None
    return tqdm(total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)


class Progress:
    """Shows how much of `total` is done and what was last reported, as a context manager."""

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done = total, unit, done
        self._bar = _bar(total, done, unit)
        self._started_s = self._spoke_s = time.perf_counter()
        self._done_before = done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def rate(self) -> float:
        """How many units a second so far."""
        return (self.done - self._done_before) / max(time.perf_counter() - self._started_s, 1e-9)

    def step(self, n: int, status: str) -> None:
        """`n` more are done; `status` says how it goes."""
        self.done += n
        if self._bar is not None:
            self._bar.set_postfix_str(status, refresh=False)
            self._bar.update(n)
        elif self.done < self.total and time.perf_counter() - self._spoke_s > EVERY_S:
            self.line(f"{self.done / self.total:6.1%}   {status}   {self.rate:,.0f} {self.unit}s/s")

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._spoke_s = time.perf_counter()
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)
