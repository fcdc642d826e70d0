"""Reductions, indexing and products side by side with PyTorch, where that is installed.

Each expression is evaluated twice, with `T` once this library and once PyTorch. Values, shapes, dtypes, gradients and
gradients of gradients must agree, and where PyTorch raises, so must we, with an exception of the same type.
"""

import itertools
import math
import warnings

import numpy as np
import pytest

import scalargrad

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _torch_writes_its_cache_elsewhere(monkeypatch, tmp_path):
    """PyTorch sets this variable when it loads its compiler, which some operations make it do."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def results(library, expression, arrays):
    """What an expression (or, with `r = ...`, statements) gives: its tensors and the leaves they came from."""
    make = torch.from_numpy if library is torch else scalargrad.from_numpy
    leaves = {name: make(np.array(a)) for name, a in arrays.items()}
    for leaf in leaves.values():
        if leaf.is_floating_point():
            leaf.requires_grad_()
    scope = {"T": library, "F": library.nn.functional, "np": np, "inf": math.inf, **leaves}
    if expression.startswith("r ="):
        exec(expression, scope)
        y = scope["r"]
    else:
        y = eval(expression, scope)
    return (list(y) if isinstance(y, tuple) else [y]), [t for t in leaves.values() if t.requires_grad]


def gradients(library, ys, leaves, order):
    """The gradients, to each order, of a fixed weighted sum of the results."""
    found = []
    for _ in range(order):
        rng = np.random.default_rng(1)
        total = 0.0
        for y in ys:
            if y is not None and y.requires_grad:
                weights = rng.standard_normal(tuple(y.shape)).astype(str(y.dtype).removeprefix("torch."))
                total = total + (y * (torch if library is torch else scalargrad).tensor(weights)).sum().double()
        if isinstance(total, float):
            break
        ys = library.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
        found.append([np.zeros(tuple(x.shape)) if g is None else as_array(g) for g, x in zip(ys, leaves, strict=True)])
    return found


def as_array(t):
    return t.numpy(force=True) if isinstance(t, torch.Tensor) else t.detach().numpy()


def agree(expression, arrays, order=2):
    """Fails unless both libraries agree about an expression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs, their_leaves = results(torch, expression, arrays)
        except Exception as error:  # noqa: BLE001
            with pytest.raises(type(error)):
                results(scalargrad, expression, arrays)
            return
        ours, our_leaves = results(scalargrad, expression, arrays)
        assert len(ours) == len(theirs)
        for y, t in zip(ours, theirs, strict=True):
            assert (str(y.dtype), tuple(y.shape)) == (str(t.dtype).removeprefix("torch."), tuple(t.shape))
            close(as_array(y), as_array(t))
        expected = gradients(torch, theirs, their_leaves, order)
        found = gradients(scalargrad, ours, our_leaves, order)
        for gs, ts in itertools.zip_longest(found, expected, fillvalue=[0.0] * len(our_leaves)):
            for g, t in zip(gs, ts, strict=True):
                close(g, t)


def close(a, b):
    tolerance = 1e-5 if np.float32 in (np.asarray(a).dtype, np.asarray(b).dtype) else 1e-9
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


REDUCTIONS = """
x.sum() x.mean() x.prod() x.max() x.min() x.amax() x.amin() x.argmax() x.argmin() x.var() x.std() x.norm() x.median()
x.all() x.any() T.count_nonzero(x) x.sum(0) x.sum(-1,True) x.sum((0,-1)) x.sum(dim=()) x.sum(0,dtype=T.float64)
x.mean(0) x.mean((-1,),keepdim=True) x.mean(()) x.prod(0) x.prod(-1,True) x.max(0) x.max(-1,True) x.min(0) x.min(1)
x.max(x) T.max(x,1) T.min(x,x*2) x.amax(0) x.amax((0,1),True) x.amin(-1) x.argmax(0) x.argmax(1,True)
x.argmax(keepdim=True) x.argmin(-1) x.var(0) x.var((0,1),False) x.var(False) x.std(0,True,True) x.std(1,unbiased=False)
x.var(0,correction=0) T.var_mean(x,0) T.std_mean(x,1,keepdim=True) x.norm(1) x.norm(2,0) x.norm(3) x.norm(1.5,0)
x.norm(0) x.norm(0.5,1) x.norm(inf) x.norm(-inf,0) x.norm("fro",dim=(0,1)) x.norm(p=inf,dim=1,keepdim=True)
x.logsumexp(0) x.logsumexp((0,1)) x.logsumexp(-1,True) x.cumsum(0) x.cumsum(-1) x.cumprod(0) x.cumprod(1) x.median(0)
x.median(1,True) x.all(0) x.any(1,True) x.all((0,1)) T.count_nonzero(x,(0,1)) x.sum(5) x.sum((0,0)) x.max(7) x.sum(1.5)
x.prod(9) x.sum(None,True) x.mean(None,True) x.var(None) x.sum("a") x.cumsum(4) x.argmax(9) x.median(4) x.logsumexp(8)
x.sum(0,1) x.sort() x.sort(0) x.sort(-1,True) x.sort(descending=True,dim=0) x.argsort(0) x.argsort(descending=True)
x.topk(9) x.sort(7) x.topk(-1) x.topk(1,5) x.sum(dtype=T.int64) x.mean(dtype=T.float64) x.mean(dtype=T.int64)
T.cumsum(x,0,dtype=T.float64) T.norm(x,dtype=T.float64) T.sum(x,axis=0,keepdims=True) T.max(x,axis=0)
""".split()
# These choose freely among equals.
FREE = "x.topk(2) x.topk(1,0) x.topk(2,-1,False) x.unique(True,True,True)".split()
# At a norm of 0, and for a variance of one number, PyTorch's second derivatives are nan and ours are numbers.
ROUGH = (".norm(", "var", "std")


@pytest.mark.parametrize("shape", [(3, 4), (4,), (2, 3, 2), (1, 1), (), (0,), (0, 3), (3, 0)], ids=str)
@pytest.mark.parametrize("rounded", [False, True])
def test_reductions(shape, rounded):
    x = np.random.default_rng(0).standard_normal(shape)
    x = np.round(x) if rounded else x
    for expression in REDUCTIONS + ([] if rounded or shape == () else FREE):
        if rounded and (".median(0" in expression or ".median(1" in expression):
            continue
        smooth = not any(name in expression for name in ROUGH) or (x.size > 1 and not rounded)
        agree(expression, {"x": x}, order=2 if smooth and "unique" not in expression else 0)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "bool", "float32"])
def test_reductions_of_other_dtypes(dtype):
    x = np.random.default_rng(0).integers(0, 4, (3, 4)).astype(dtype)
    for expression in REDUCTIONS:
        if dtype == "bool" and "median" in expression:  # PyTorch has none
            continue
        agree(expression, {"x": x}, order=0 if any(name in expression for name in ROUGH) else 2)


def test_reductions_of_zeros_nan_and_infinities():
    x = np.random.default_rng(0).standard_normal((4, 3))
    zeros = x.copy()
    zeros[[0, 1, 3], [1, 1, 0]] = 0
    for expression in ["x.prod()", "x.prod(0)", "x.prod(1)", "x.cumprod(0)", "x.cumprod(1)"]:
        agree(expression, {"x": zeros})
    nans, infinities = x.copy(), x.copy()
    nans[[1, 3, 0], [1, 1, 0]] = math.nan
    infinities[0, 0], infinities[2] = math.inf, -math.inf
    for expression in REDUCTIONS + FREE[:-1]:
        agree(expression, {"x": nans}, order=0)
        if "var" not in expression and "std" not in expression:  # a matter of the order of summation
            agree(expression, {"x": infinities}, order=0)


PARTS = "0 -1 1: ::2 : None ... i j k b [0,2] i32 o True bt [True,False,True] 1:3 2:1 np.array([0,1]) False".split()
RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5))
ARRAYS = {
    "x": X,
    "i": np.array([0, 2]),
    "j": np.array([1, -1]),
    "k": np.array([[0, 1], [2, 2]]),
    "i32": np.array([2, 1, 1], np.int32),
    "b": np.array([True, False, True]),
    "b4": np.array([True, False, True, True]),
    "m": RNG.random((3, 4)) > 0.5,
    "M": X > 0,
    "o": np.array(1),
    "bt": np.array(True),
    "s": RNG.standard_normal(()),
    "v": RNG.standard_normal((4, 5)),
    "w": RNG.standard_normal((2, 4, 5)),
    "d": RNG.standard_normal(5),
}


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_reading_by_index(n):
    pairs = itertools.product(PARTS, repeat=n)
    drawn = pairs if n <= 2 else (np.random.default_rng(n).choice(PARTS, n) for _ in range(150))
    for index in drawn:
        if list(index).count("...") < 2:
            agree(f"x[{','.join(index)}]", {name: ARRAYS[name] for name in ("x", *"ijkbo", "i32", "bt")})


def test_reading_by_unusual_index():
    for (
        index
    ) in "m M m,0 m,i 0,b4 :,b4,i b4 o: :o () range(2) [] ::-1 ::0 1.5 i-9 i,k,i32 0,0,0 0,0,0,0 m][1:,0".split():
        agree(f"x[{index}] ** 2", ARRAYS)


INDICES = (
    "0 1:3 i b [0,2] ...,0 i,j m M k 0,1,2 ::2 :,i i,:,j 0,:,i None,0 b,1 0,b4 True ... o 9 i+9 0,0,0,0 b4".split()
)


@pytest.mark.parametrize("value", ["1.5", "s", "v", "w", "d", "d[:1]", "3", "None", "[1.]", "x[0]*2", "d.view(1,1,5)"])
def test_writing_by_index(value):
    for index in INDICES:
        agree(f"r = x * 1.0; r[{index}] = {value}", ARRAYS)


CHOOSING = """
T.where(M,x,0.) T.where(M,x,x*2) T.where(m[:,:,None],x,1) T.where(M,1.,x) T.where(M,1,0) T.where(M,1.,0) T.where(M)
T.where(x,x,x) T.where(M,x) x.where(M,0) T.where(m,x,x) T.where(M,x,T.ones(5)) x.masked_fill(M,2.) x.masked_fill(m,2.)
x.masked_fill(x,2.) x.masked_fill(M,s) x.masked_fill(M,d) x.masked_select(M) x.masked_select(m[...,None])
x.masked_select(m) x.nonzero() m.nonzero(as_tuple=True) o.nonzero() o.nonzero(as_tuple=True) x.select(-1,-2)
x.select(0,5) o.select(0,0) x.tril() x.triu(1) x.tril(-1)**2 x[0,0].tril() x.diagonal() x.diagonal(-1,1,2)**2
x.diagonal(9) x.diagonal(0,0,0) x[0].diag() x[0,0].diag(1)**2 x[0].diag(-1) x.diag() x.flip(0,1)**2 x.flip((0,2))
x.flip((0,0)) x.flip(9) x.roll(1) x.roll((1,2),(0,1))**2 x.roll((1,2),0) x.roll(1,(0,1)) x.roll((1,2)) x.roll(-7,0)
x.roll(1,9) x.index_select(0,i) x.index_select(1,i32)**2 x.index_select(0,i+9) x.index_select(0,j) x.index_select(0,k)
x.index_select(0,o) x.index_select(0,d) x.index_add(0,i,w) x.index_add(0,i*0,w)**2 T.index_add(x,0,i,w,alpha=2)
x.index_add(0,i,x) x.index_add(0,i+7,w) x.index_add(0,i,w.float()) x.take(k) x.take(i-1) x.take(i+60) x.take(d)
x.take(i*0)**2 T.take_along_dim(x,k[:,:1,None],2) T.take_along_dim(x,i) T.take_along_dim(x,i,0)
x.gather(0,k[...,None])**2 x.gather(1,k[:,None]) x.gather(0,i) x.gather(0,k[...,None]*9) x.gather(0,k[...,None]-1)
x.gather(0,k.view(1,4,1)) x.gather(0,k.view(1,1,4)) x.gather(9,i) x.gather(0,x) o.gather(0,o-1)
x.scatter(0,k[...,None],w) x.scatter(0,k[...,None],5.) x.scatter(2,k[...,None],w)**2 x.scatter(0,k[...,None]*9,w)
x.scatter(0,k[...,None],w.float()) x.scatter_add(0,k[...,None],w) x.scatter_add(1,k[None],w)**2 x.scatter_add(0,i,w)
""".split()


def test_choosing_and_putting():
    for expression in CHOOSING:
        # PyTorch's own gradient fails for a source larger than its index.
        agree(expression, ARRAYS, order=0 if "scatter" in expression else 2)


SHAPES = [(), (3,), (4,), (3, 4), (4, 3), (2, 3, 4), (2, 4, 3), (1, 4, 3), (5, 1, 3, 4), (0, 4), (4, 0), (0, 3, 4)]
PRODUCTS = (
    "a@b (a@b)**2 T.mm(a,b) T.bmm(a,b) T.dot(a,b) T.outer(a,b) F.linear(a,b) T.tensordot(a,b,1) T.tensordot(a,b,0)"
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_of_two(shape):
    for other in SHAPES:
        for expression in PRODUCTS.split():
            agree(expression, {"a": RNG.standard_normal(shape), "b": RNG.standard_normal(other)})


def test_products_and_a_sum():
    for shape in [(), (1,), (5,), (3, 1), (3, 5), (2,), (1, 3, 5)]:
        arrays = {"a": RNG.standard_normal((3, 4)), "b": RNG.standard_normal((4, 5)), "c": RNG.standard_normal(shape)}
        for expression in "T.addmm(c,a,b) T.addmm(c,a,b,beta=2,alpha=.5)**2 c.addmm(a,b,beta=0) T.addmm(c,b,a)".split():
            agree(expression, arrays)
        if shape in [(5,), (2,)]:
            for (
                expression
            ) in "F.linear(a,b.T,c)**2 F.linear(a[None],b.T,c)**2 F.linear(a[0],b.T,c) F.linear(a,b,c)".split():
                agree(expression, arrays)


@pytest.mark.parametrize("dtype", ["float32", "int64", "int8", "bool"])
def test_products_of_other_dtypes(dtype):
    a = RNG.integers(-3, 3, (3, 3)).astype(dtype)
    for expression in "a@a a[0]@a a@a[0] a[0]@a[0] F.linear(a,a,a[0]) F.linear(a,a) T.mm(a,a) a@a.double() a@3".split():
        agree(expression, {"a": a})


EQUATIONS = """
ij,jk->ik ij,jk ij,jk-> ij,ij-> ij,ij->ij ij,ij->i ij,kj->ki ...j,j->... ij->ji ij-> ij->i ij ji i...->...i ij,kl->ijkl
i...,... ij,i->j iz->ii ij->k i->i i1 ij, ij,jk,kl->il ii ij,jj->i jj,ij->ji ij,jk->k Ab,bA ...->... ...-> ii->i
...a,...b->...ab i...j->j...i
""".split()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation):
    for shapes in [[(4, 4)], [(3, 4)], [(3, 4), (4, 4)], [(4, 4), (4,)], [(3, 4), (3, 1)], [(3, 4), (4, 2), (2, 3)]]:
        arrays = dict(zip("abc", map(RNG.standard_normal, shapes), strict=False))
        agree(f"T.einsum('{equation}', {','.join(arrays)})", arrays)
