"""save and load: checkpoints that hold data only, and are written whole or not at all.

A checkpoint is a zip file: `tree.json` is the object with its arrays left out, and `arrays/0.npy`, `arrays/1.npy`, …
are these, in NumPy's own format. Nothing in it is ever executed, so a checkpoint from anyone can be loaded.
"""

import contextlib
import io
import json
import math
import os
import secrets
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from scalargrad.creation import from_numpy
from scalargrad.ops.shape import Size
from scalargrad.tensor import Tensor

FORMAT, VERSION = "scalargrad checkpoint", 1
TREE = "tree.json"


def _member(number: int) -> str:
    return f"arrays/{number}.npy"


def _entry(name: str) -> zipfile.ZipInfo:
    """The zip entry of a member: dated 1980, so that the same object makes the same bytes, and readable by all."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info


class _Encoder:
    """Takes an object apart: arrays into a list, the rest into what JSON can say.

    A scalar is itself, a list is a list; all else is an object with one key that names its kind.
    """

    def __init__(self) -> None:
        self.arrays: list[np.ndarray[Any, Any]] = []
        self._numbers: dict[int, int] = {}
        self._open: list[int] = []

    def encode(self, x: Any, path: str = "obj") -> Any:
        if x is None or type(x) in (bool, int, float, str):
            return x
        if isinstance(x, Tensor):
            return {"tensor": self._number(x, x.array, path), "requires_grad": bool(x.requires_grad)}
        if isinstance(x, np.ndarray):
            return {"array": self._number(x, x, path)}
        if isinstance(x, np.generic):
            return {"scalar": self._number(x, np.asarray(x), path)}
        if isinstance(x, np.dtype) and not x.hasobject and x.names is None:
            return {"dtype": x.str}
        if type(x) not in (list, tuple, Size, dict, OrderedDict):
            raise TypeError(
                f"save(): cannot store {path}, of type {type(x).__name__}; a checkpoint holds tensors, arrays, "
                "numbers, strings, dtypes, None, and lists, tuples and dicts of these"
            )
        if id(x) in self._open:
            raise ValueError(f"save(): {path} contains itself")
        self._open.append(id(x))
        try:
            if isinstance(x, dict):
                pairs = [
                    [self.encode(key, f"a key of {path}"), self.encode(value, f"{path}[{key!r}]")]
                    for key, value in x.items()
                ]
                return {type(x).__name__: pairs}
            values = [self.encode(value, f"{path}[{i}]") for i, value in enumerate(x)]
            return values if type(x) is list else {type(x).__name__: values}
        finally:
            self._open.pop()

    def _number(self, owner: Any, array: np.ndarray[Any, Any], path: str) -> int:
        """The number under which `array` is stored: the same for the same object, so that it comes back as one."""
        if array.dtype.hasobject or array.dtype.kind not in "biufc":
            raise TypeError(f"save(): cannot store {path}, an array of {array.dtype}: only numbers and bools")
        number = self._numbers.get(id(owner))
        if number is None:
            number = self._numbers[id(owner)] = len(self.arrays)
            self.arrays.append(array)
        return number


class _Decoder:
    """Puts an object together again. Whatever is not as `_Encoder` writes it raises some Exception."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._made: dict[tuple[str, int], Any] = {}

    def _array(self, number: int) -> np.ndarray[Any, Any]:
        info = self._archive.getinfo(_member(number))
        if info.compress_type != zipfile.ZIP_STORED:
            # We never compress; a file that does may claim to unpack to more than any memory holds.
            raise ValueError(f"{info.filename} is compressed")
        data = self._archive.read(info)
        header = io.BytesIO(data)
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError(f"{info.filename} is in another version of NumPy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(header)
        start = header.tell()
        # An array of objects over these bytes would take them for pointers.
        if dtype.hasobject or start + math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"{info.filename} does not hold {dtype} of shape {shape}")
        return np.ndarray(shape, dtype, data, start, order="F" if is_fortran else "C").copy(order="K")

    def _once(self, kind: str, number: int) -> Any:
        if (kind, number) not in self._made:
            self._made[kind, number] = self._array(number)
        return self._made[kind, number]

    def decode(self, x: Any) -> Any:
        if not isinstance(x, list | dict):
            return x
        if isinstance(x, list):
            return [self.decode(value) for value in x]
        kind, content = next(iter(x.items()))
        match kind:
            case "tensor":
                if ("tensor", content) not in self._made:
                    self._made["tensor", content] = from_numpy(self._array(content)).requires_grad_(x["requires_grad"])
                return self._made["tensor", content]
            case "array":
                return self._once("array", content)
            case "scalar":
                return self._once("scalar", content)[()]
            case "dtype":
                return np.dtype(content)
            case "tuple":
                return tuple(self.decode(content))
            case "Size":
                return Size(self.decode(content))
            case "dict":
                return {self.decode(key): self.decode(value) for key, value in content}
            case "OrderedDict":
                return OrderedDict((self.decode(key), self.decode(value)) for key, value in content)
        raise ValueError(f"no object is of kind {kind!r}")


def _write(encoder: _Encoder, tree: str, file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(TREE), tree)
        for number, array in enumerate(encoder.arrays):
            with archive.open(_entry(_member(number)), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write, which appears at `path` when the block ends well, and of which else nothing remains.

    It is written beside `path` under another name, flushed to the disk, and renamed. A link is followed, the
    permissions of a file that is replaced are kept, and what is not a plain file (such as /dev/null) is written to.
    """
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(f"{os.fspath(path)} is a directory")
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with open(target, "wb") as file:
            yield file
        return
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{os.fspath(path)}: there is no directory {folder}")
    temporary = os.path.join(folder, f".scalargrad-{secrets.token_hex(8)}")
    try:
        file = open(temporary, "xb")  # noqa: SIM115 (it is closed below, before the renaming)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        # The new name is in the directory, which has to reach the disk too. Windows opens no directories.
        with contextlib.suppress(OSError):
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write `obj` to the file named `f`, or to the open binary file `f`.

    `obj` is made of tensors, arrays, numbers, strings, dtypes, None, and lists, tuples, dicts and OrderedDicts of
    these: a `state_dict()`, or several with the number of the epoch. A file at `f` is replaced in one instant, when the
    new one is whole and on the disk. A Tensor that occurs twice comes back as one; tensors that merely share memory
    do not. A Parameter comes back as a Tensor that requires grad.
    Raises TypeError for anything else, ValueError for a container that contains itself; then nothing is written.
    """
    encoder = _Encoder()
    try:
        tree = json.dumps({"format": FORMAT, "version": VERSION, "tree": encoder.encode(obj)})
    except RecursionError:
        raise ValueError("save(): the object's containers are nested too deep") from None
    if isinstance(f, str | os.PathLike):
        with whole_file(f) as file:
            _write(encoder, tree, file)
    elif hasattr(f, "write"):
        _write(encoder, tree, f)
    else:
        raise TypeError(f"save(): f must be a path or an open binary file, got {type(f).__name__}")


def load(f: str | os.PathLike[str] | IO[bytes], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """The object that `save` wrote to the file named `f`, or to the open binary file `f`.

    Tensors and arrays come back with their dtype, shape and `requires_grad`. No code is run, so `weights_only` is
    always true; `map_location` may name the one device there is, the CPU.
    Raises RuntimeError, and gives nothing, if the file is damaged or is not a checkpoint of `save`.
    """
    if not weights_only:
        raise ValueError("load(): weights_only=False would unpickle, which runs code; checkpoints hold data only")
    if map_location is not None and str(map_location) != "cpu":
        raise RuntimeError(f"load(): there is no device but 'cpu', got map_location={map_location!r}")
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:
            return _read(file, os.fspath(f))
    if not hasattr(f, "read"):
        raise TypeError(f"load(): f must be a path or an open binary file, got {type(f).__name__}")
    return _read(io.BytesIO(f.read()), "the file")


def _read(file: IO[bytes], name: str) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(TREE)
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{TREE} is compressed")
            head = json.loads(archive.read(info))
            if head["format"] != FORMAT:
                raise ValueError(f"its format is {head['format']!r}")
            if head["version"] != VERSION:
                raise ValueError(f"its version is {head['version']!r}, known is {VERSION}")
            return _Decoder(archive).decode(head["tree"])
    except MemoryError:
        raise
    # What a damaged file may raise in zipfile, json and NumPy is open-ended; that it is damaged is the news.
    except Exception as error:  # noqa: BLE001
        detail = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise RuntimeError(
            f"load(): {name} is damaged or not a checkpoint written by scalargrad.save ({detail[0]})"
        ) from None
