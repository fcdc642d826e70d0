"""The manners of the demos on the command line: one line for a user's mistake, and a quiet end on Ctrl-C."""

import argparse
import contextlib
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NoReturn

INTERRUPTED, NO_READER = 130, 141
"""Exit codes of a program that was stopped by Ctrl-C, or whose reader went away: 128 and the number of the signal."""

PLOT_FORMATS = (".png", ".svg", ".pdf")


class Refusal(Exception):
    """A demo cannot go on, for a reason that lies with the user, in words for the user."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line on stderr, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print `message` and leave."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that is an integer of at least `least`, and at most `most`."""
    bounds = f"of at least {least}" + (f" and at most {most}" if most is not None else "")

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, got {text!r}")
        return value

    return read


def number(least: float, below: float = math.inf, *, open_below: bool = False) -> Callable[[str], float]:
    """The type of an option that is a number from `least` (itself excluded if `open_below`) up to `below`."""
    bounds = f"{'above' if open_below else 'of at least'} {least:g}" + (
        f" and below {below:g}" if below < math.inf else ""
    )

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least < value < below or (value == least and not open_below)):
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, got {text!r}")
        return value

    return read


def output_file(text: str) -> str:
    """The type of an option that names a file to be written: refused now rather than when the work is done."""
    folder = os.path.dirname(os.path.realpath(text))
    if not text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected the name of a file, got {text!r}" + " (a directory)" * bool(text))
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: there is no directory {folder}")
    if not os.access(text if os.path.exists(text) else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: permission denied")
    return text


def plot_file(text: str) -> str:
    """The type of the option --plot: a file of a kind that is drawn, and matplotlib to draw it with."""
    if os.path.splitext(text)[1].lower() not in PLOT_FORMATS:
        raise argparse.ArgumentTypeError(f"expected a file name ending in {', '.join(PLOT_FORMATS)}, got {text!r}")
    if not _installed("matplotlib"):
        raise argparse.ArgumentTypeError('a plot needs matplotlib: pip install "scalargrad[demos]"')
    return output_file(text)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # It is in sys.modules as None: imports of it are blocked.
        return False


def add_plot_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --plot FILE to `parser`; `what` is drawn."""
    parser.add_argument("--plot", metavar="FILE", type=plot_file, help=f"draw {what} (needs matplotlib)")


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """A block that writes `path`: Refusal if it cannot be done."""
    try:
        yield
    except OSError as error:
        raise Refusal(f"cannot write {path!r}: {error.strerror or error}") from None


def run(main: Callable[[], int]) -> NoReturn:
    """Leave the program with what `main` returns, and without a traceback on Ctrl-C or when nobody reads on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that know no "×"
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        code = INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more on its way out, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NO_READER
    sys.exit(code)
