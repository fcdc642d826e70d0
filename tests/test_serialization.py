"""Checkpoints: what comes back, that a file is whole or not there, and what a damaged one gets."""

import io
import json
import math
import os
import pickle
import stat
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import scalargrad as sg
from scalargrad import nn, optim

DTYPES = [sg.float32, sg.float64, sg.int64, sg.int32, sg.int16, sg.int8, sg.uint8, sg.bool]


def through_a_file(obj):
    """`obj` saved and loaded again."""
    file = io.BytesIO()
    sg.save(obj, file)
    file.seek(0)
    return sg.load(file)


def same(a, b):
    """Whether two objects are of the same types and hold the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, sg.Tensor):
        return a.requires_grad == b.requires_grad and same(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or a != a != b != b


arrays = st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0)))
keys = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text()))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    arrays,
    arrays.map(sg.from_numpy),
    npst.arrays(sg.float32, (2, 3)).map(lambda a: sg.from_numpy(a).requires_grad_()),
    st.sampled_from(DTYPES),
    st.sampled_from([np.float64(1.5), np.int8(-3), np.bool_(True), np.float32("nan"), np.complex64(1 + 2j)]),
    st.just(sg.Size([2, 3])),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=8,
)


@given(obj=trees)
def test_what_is_saved_comes_back_to_the_bit(obj):
    assert same(through_a_file(obj), obj)


@given(obj=trees)
def test_the_same_object_makes_the_same_bytes(obj):
    one, other = io.BytesIO(), io.BytesIO()
    sg.save(obj, one)
    sg.save(obj, other)
    assert one.getvalue() == other.getvalue()


def test_a_tensor_that_is_not_contiguous_is_saved_as_it_looks():
    x = sg.arange(24.0).view(2, 3, 4)
    for t in (x.permute(2, 0, 1), x[:, ::2], x[1], sg.from_numpy(np.asfortranarray(x.numpy()))):
        back = through_a_file(t)
        assert back.tolist() == t.tolist()
        back.add_(1)
        assert x[0, 0, 0].item() == 0


def test_what_occurs_twice_comes_back_as_one():
    t, a = sg.ones(2, requires_grad=True), np.zeros(3)
    back = through_a_file({"w": [t, t], "a": (a, a), "other": sg.ones(2, requires_grad=True)})
    assert back["w"][0] is back["w"][1]
    assert back["a"][0] is back["a"][1]
    assert back["other"] is not back["w"][0]


def test_a_net_and_its_optimizer_go_on_as_if_nothing_had_happened(tmp_path):
    def made():
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        return net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(net, optimizer):
        optimizer.zero_grad()
        (net(sg.ones(2, 3)) ** 2).sum().backward()
        optimizer.step()

    (net, optimizer), path = made(), tmp_path / "checkpoint"
    step(net, optimizer)
    sg.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rng": sg.get_rng_state()}, path)
    drawn = sg.rand(3).tolist()
    step(net, optimizer)

    other, other_optimizer = made()
    checkpoint = sg.load(path)
    assert list(checkpoint["net"]) == list(net.state_dict())
    other.load_state_dict(checkpoint["net"])
    other_optimizer.load_state_dict(checkpoint["optimizer"])
    sg.set_rng_state(checkpoint["rng"])
    assert sg.rand(3).tolist() == drawn
    step(other, other_optimizer)
    assert [p.tolist() for p in other.parameters()] == [p.tolist() for p in net.parameters()]


def test_a_checkpoint_can_be_opened_by_other_means(tmp_path):
    path = tmp_path / "checkpoint.npz"
    sg.save({"w": sg.ones(2, 2)}, path)
    with np.load(path) as archive:
        assert archive["arrays/0"].tolist() == [[1, 1], [1, 1]]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("tree.json"))["format"] == "scalargrad checkpoint"


def cycle():
    """A list that is its own element."""
    obj = [1]
    obj.append({"again": obj})
    return obj


def deep():
    """More lists in lists than the interpreter can follow."""
    obj = []
    for _ in range(100_000):
        obj = [obj]
    return obj


REFUSED = [
    (lambda: {"net": [nn.Linear(1, 1)]}, TypeError, r"cannot store obj\['net'\]\[0\], of type Linear"),
    (lambda: {1: {"a b": {2, 3}}}, TypeError, r"cannot store obj\[1\]\['a b'\], of type set"),
    (lambda: {b"key": 1}, TypeError, "cannot store a key of obj, of type bytes"),
    (lambda: np.array([None, 1]), TypeError, "cannot store obj, an array of object"),
    (lambda: (0, np.array(["a"])), TypeError, r"cannot store obj\[1\], an array of <U1"),
    (cycle, ValueError, r"obj\[1\]\['again'\] contains itself"),
    (deep, ValueError, "nested too deep"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_cannot_be_stored_is_named_and_nothing_is_written(tmp_path, make, error, message):
    path = tmp_path / "checkpoint"
    sg.save("before", path)
    with pytest.raises(error, match=message):
        sg.save(make(), path)
    assert sg.load(path) == "before"
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path, monkeypatch):
    """Wherever in the writing it fails: the old file is whole, and nothing lies about."""
    path = tmp_path / "checkpoint"
    sg.save("before", path)

    def fail(*arguments, **options):
        raise error

    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        for module, name in ((np.lib.format, "write_array"), (os, "fsync"), (os, "replace"), (os, "chmod")):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, fail)
                with pytest.raises(type(error)):
                    sg.save([sg.ones(3)], path)
            assert sg.load(path) == "before"
            assert os.listdir(tmp_path) == ["checkpoint"]


def test_the_file_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments, name=name, real=real: (done.append(name), real(*arguments)))
    sg.save(1, tmp_path / "checkpoint")
    assert done[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permissions, links and special files are POSIX's")
def test_a_file_that_is_replaced_keeps_its_permissions_and_its_links(tmp_path):
    path, link = tmp_path / "checkpoint", tmp_path / "link"
    sg.save(1, path)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    link.symlink_to(path)
    sg.save(2, link)
    assert link.is_symlink()
    assert sg.load(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sg.save(3, pipe)
    assert sg.load(io.BytesIO(os.read(reader, 65536))) == 3
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_paths_that_cannot_be_written_or_read_raise_as_open_does(tmp_path):
    for call in (lambda path: sg.save(1, path), sg.load):
        with pytest.raises(FileNotFoundError, match="missing"):
            call(tmp_path / "missing" / "checkpoint")
        with pytest.raises(IsADirectoryError if os.name == "posix" else OSError):
            call(tmp_path)
    for call in (lambda f: sg.save(1, f), sg.load):
        with pytest.raises(TypeError, match="f must be a path or an open binary file, got int"):
            call(3)


def test_pytorchs_arguments_of_load(tmp_path):
    path = tmp_path / "checkpoint"
    sg.save(1, path)
    assert sg.load(path, map_location="cpu", weights_only=True) == 1
    with pytest.raises(RuntimeError, match="no device but 'cpu', got map_location='cuda'"):
        sg.load(path, map_location="cuda")
    with pytest.raises(ValueError, match="weights_only=False would unpickle"):
        sg.load(path, weights_only=False)


def checkpoint_bytes():
    """A checkpoint with something of everything."""
    file = io.BytesIO()
    sg.save({"net": OrderedDict(w=sg.ones(3, 4, requires_grad=True)), "epoch": (1, np.zeros(5)), "lr": math.pi}, file)
    return file.getvalue()


@given(data=st.data())
def test_a_file_with_a_changed_or_missing_byte_gives_one_error_or_the_whole_object(data):
    """zip keeps sums of the contents, not of its own bookkeeping: a flag there may change without harm."""
    raw = bytearray(checkpoint_bytes())
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    words = ""
    try:
        found = sg.load(io.BytesIO(raw))
    except RuntimeError as error:
        words = str(error)
    if words:
        assert words.startswith("load(): the file is damaged or not a checkpoint written by scalargrad.save")
        assert "\n" not in words
    else:
        assert same(found, sg.load(io.BytesIO(checkpoint_bytes())))


def test_every_cut_of_a_file_is_refused():
    raw = checkpoint_bytes()
    for end in range(len(raw)):
        with pytest.raises(RuntimeError, match="damaged or not a checkpoint"):
            sg.load(io.BytesIO(raw[:end]))


def zipped(*members):
    """A zip file of members, each (name, content) or (name, content, compression)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for member in members:
            made.writestr(*member)
    return file.getvalue()


def archive(json_text, *members):
    """A zip file with a tree.json and further members."""
    return zipped(("tree.json", json_text), *members)


def tree(content, **changes):
    """A tree.json around `content`."""
    return json.dumps({"format": "scalargrad checkpoint", "version": 1, "tree": content} | changes)


def npy(array, **options):
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


class Trap:
    """Unpickling this would call a function."""

    def __reduce__(self):
        return print, ("code was run",)


def npy_header(descr, *shape):
    """The first bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


W = "arrays/0.npy"


def foreign():
    """Files that are no checkpoints, by name."""
    npz = io.BytesIO()
    np.savez(npz, w=np.ones(3))
    array = {"array": 0}
    return {
        "empty": b"",
        "text": b"hello",
        "pickle": pickle.dumps(Trap()),
        "another zip": zipped(("readme", "hello")),
        "npz": npz.getvalue(),
        "no json": archive("{"),
        "no object": archive("[1, 2]"),
        "no tree": archive(json.dumps({"format": "scalargrad checkpoint", "version": 1})),
        "another format": archive(tree(1, format="other")),
        "a later version": archive(tree(1, version=2)),
        "an unknown kind": archive(tree({"call": ["os.system", "true"]})),
        "no kind": archive(tree({})),
        "a missing array": archive(tree(array)),
        "a number for an array": archive(tree({"array": "0"})),
        "an unhashable key": archive(tree({"dict": [[[1], 2]]})),
        "a key without a value": archive(tree({"dict": [[1]]})),
        "deep nesting": archive("[" * 100_000 + "]" * 100_000),
        "pickled objects": archive(tree(array), (W, npy(np.array([Trap()], object), allow_pickle=True))),
        "a short array": archive(tree(array), (W, npy(np.ones(3))[:-1])),
        "a long array": archive(tree(array), (W, npy(np.ones(3)) + b"x")),
        "a huge array": archive(tree(array), (W, npy_header("<f8", 1 << 50))),
        "pointers": archive(tree(array), (W, npy_header("|O", 1) + b"\1" * 8)),
        "no npy": archive(tree(array), (W, b"hello")),
        "a later npy": archive(tree(array), (W, npy(np.ones(3), version=(2, 0)))),
        "a compressed tree": zipped(("tree.json", tree(1), zipfile.ZIP_DEFLATED)),
        "a compressed array": archive(tree(array), (W, npy(np.ones(3)), zipfile.ZIP_DEFLATED)),
        "a complex tensor": archive(tree({"tensor": 0, "requires_grad": False}), (W, npy(np.ones(3, complex)))),
        "an integer that requires grad": archive(tree({"tensor": 0, "requires_grad": True}), (W, npy(np.ones(3, int)))),
    }


@pytest.mark.parametrize("kind", foreign())
def test_a_file_that_is_no_checkpoint_gives_one_clear_error_and_runs_nothing(tmp_path, kind, capsys):
    path = tmp_path / "file"
    path.write_bytes(foreign()[kind])
    with pytest.raises(RuntimeError, match="damaged or not a checkpoint written by") as caught:
        sg.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_the_traps_would_spring_if_they_were_unpickled(capsys):
    pickle.loads(foreign()["pickle"])
    assert capsys.readouterr().out == "code was run\n"
