# Which axes a reduction folds and in which order, and the way back. What is no contiguous array of this module's type
# goes on to `plain_reduction`, which says what each function is.
from scalargrad.kernels import plain_reduction as reduced_in_numpy

# Neighbouring axes that are all reduced or all kept are one group, outermost first.
cdef struct Groups:
    int n
    Py_ssize_t sizes[MAX_GROUPS]
    bint reduced[MAX_GROUPS]


cdef bint find_groups(cnp.ndarray x, const bint* is_reduced, Groups* g) noexcept:
    """Whether there are no more groups than fit."""
    cdef int i
    g.n = 0
    for i in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(x, i) == 1:
            continue
        if g.n == 0 or g.reduced[g.n - 1] != is_reduced[i]:
            if g.n == MAX_GROUPS:
                return False
            g.sizes[g.n] = 1
            g.reduced[g.n] = is_reduced[i]
            g.n += 1
        g.sizes[g.n - 1] *= cnp.PyArray_DIM(x, i)
    return True


cdef bint fold_groups(int op, const real* x, real* y, Groups* g) noexcept nogil:
    """Folds group after group, the innermost first, and of each block after block. False if memory lacks."""
    cdef Stage s
    cdef real* scratch = NULL
    cdef int i, j, n_left = 0
    for i in range(g.n):
        n_left += g.reduced[i]
    s.op = op
    s.x = x
    s.n_inner = 1
    for i in range(g.n - 1, -1, -1):
        if not g.reduced[i]:
            s.n_inner *= g.sizes[i]
            continue
        n_left -= 1
        s.n = g.sizes[i]
        s.n_outer = 1
        for j in range(i):
            s.n_outer *= g.sizes[j]
        while True:
            s.block = NUMBERS_PER_BLOCK if s.n_inner == 1 else ROWS_PER_BLOCK
            s.n_blocks = (s.n + s.block - 1) // s.block
            s.y = y
            if n_left > 0 or s.n_blocks > 1:
                s.y = <real*>malloc(s.n_outer * s.n_blocks * s.n_inner * sizeof(real))
                if s.y == NULL:
                    free(scratch)
                    return False
            run(stage_worker, &s, shares_of(FLOP_PER_MOVE * s.n_outer * s.n * s.n_inner, s.n_outer * s.n_blocks))
            free(scratch)
            scratch = s.y if s.y != y else NULL
            s.x = s.y
            if s.n_blocks == 1:
                break
            s.n = s.n_blocks
    return True


cdef cnp.ndarray fold_axes(int op, cnp.ndarray x, const bint* is_reduced, int ndim, cnp.npy_intp* dims):
    """x folded, in an array of the given shape. None where NumPy has to do it."""
    cdef Groups g
    cdef bint done
    cdef cnp.ndarray y
    cdef const real* given = data(x)
    cdef real* result
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    if n == 0 or not find_groups(x, is_reduced, &g):
        return None
    y = fresh(ndim, dims, REAL_TYPENUM)
    if g.n == 0 or (g.n == 1 and not g.reduced[0]):
        memcpy(data(y), given, n * sizeof(real))
        return y
    result = data(y)
    if n < KEEP_LOCK_BELOW:
        done = fold_groups(op, given, result, &g)
    else:
        with nogil:
            done = fold_groups(op, given, result, &g)
    if not done:
        raise MemoryError(f"no memory for partial results of an array of shape {shape_of(x)}")
    return y


cdef bint mark(object dims, int ndim, bint* is_reduced) except -1:
    """Which axes `dims` names. False for what NumPy has to judge."""
    cdef int i
    for i in range(ndim):
        is_reduced[i] = dims is None
    if dims is None:
        return True
    if type(dims) is not tuple:
        return False
    for d in <tuple>dims:
        if not PyLong_CheckExact(d) or not 0 <= d < ndim or is_reduced[<int>d]:
            return False
        is_reduced[<int>d] = True
    return True


cdef folded(int op, str name, object x, object dims, bint keepdim):
    cdef bint[MAX_DIMS] is_reduced
    cdef cnp.npy_intp[MAX_DIMS] kept
    cdef int ndim = 0, i
    cdef cnp.ndarray y
    if is_ours(x) and mark(dims, cnp.PyArray_NDIM(<cnp.ndarray>x), is_reduced):
        for i in range(cnp.PyArray_NDIM(<cnp.ndarray>x)):
            if keepdim or not is_reduced[i]:
                kept[ndim] = 1 if is_reduced[i] else cnp.PyArray_DIM(<cnp.ndarray>x, i)
                ndim += 1
        y = fold_axes(op, <cnp.ndarray>x, is_reduced, ndim, kept)
        if y is not None:
            return y
    elif is_for_float64(x):
        return getattr(float64_kernels, name)(x, dims, keepdim)
    return getattr(reduced_in_numpy, name)(x, dims, keepdim)


def sum_over(x, dims, keepdim):
    """See `plain_reduction.sum_over`."""
    return folded(SUM, "sum_over", x, dims, keepdim)


def mean_over(x, dims, keepdim):
    """See `plain_reduction.mean_over`."""
    cdef cnp.ndarray y
    cdef real* means
    cdef Py_ssize_t i, n
    if not is_ours(x) or cnp.PyArray_SIZE(<cnp.ndarray>x) == 0:
        if is_for_float64(x):
            return float64_kernels.mean_over(x, dims, keepdim)
        return reduced_in_numpy.mean_over(x, dims, keepdim)
    y = folded(SUM, "sum_over", x, dims, keepdim)
    means = data(y)
    n = cnp.PyArray_SIZE(<cnp.ndarray>x) // cnp.PyArray_SIZE(y)
    for i in range(cnp.PyArray_SIZE(y)):
        means[i] = means[i] / <real>n
    return y


def max_over(x, dims, keepdim):
    """See `plain_reduction.max_over`."""
    return folded(LARGEST, "max_over", x, dims, keepdim)


def min_over(x, dims, keepdim):
    """See `plain_reduction.min_over`."""
    return folded(SMALLEST, "min_over", x, dims, keepdim)


def sum_to_size(x, shape):
    """See `plain_reduction.sum_to_size`."""
    cdef bint[MAX_DIMS] is_reduced
    cdef cnp.npy_intp[MAX_DIMS] dims
    cdef int ndim, n_kept, extra, i
    cdef bint fits = True, same = True
    cdef cnp.ndarray y
    if is_ours(x) and type(shape) is tuple and len(<tuple>shape) <= cnp.PyArray_NDIM(<cnp.ndarray>x):
        ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
        n_kept = <int>len(<tuple>shape)
        extra = ndim - n_kept
        for i in range(ndim):
            is_reduced[i] = i < extra
            if i >= extra:
                dims[i - extra] = (<tuple>shape)[i - extra]
                is_reduced[i] = dims[i - extra] == 1 and cnp.PyArray_DIM(<cnp.ndarray>x, i) != 1
                fits = fits and (is_reduced[i] or dims[i - extra] == cnp.PyArray_DIM(<cnp.ndarray>x, i))
            same = same and not is_reduced[i]
        if fits and same:
            return x
        if fits:
            y = fold_axes(SUM, <cnp.ndarray>x, is_reduced, n_kept, dims)
            if y is not None:
                return y
    elif is_for_float64(x):
        return float64_kernels.sum_to_size(x, shape)
    return reduced_in_numpy.sum_to_size(x, shape)


cdef inline void copy_row(const real* x, real* out, Py_ssize_t n) noexcept nogil:
    """For 1000 rows of 1000 in 40 us, where memcpy takes 63."""
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        (<uvec*>(out + i))[0] = at(x + i)
        i += VL
    if i < n:
        VSTOREN(out + i, VLOADN(x + i, n - i), n - i)


cdef void spread_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """Rows of copies of `a`; `b` stands for the result's shape and is not read."""
    cdef Broadcast* p = <Broadcast*>job
    cdef Py_ssize_t n = p.sizes[0], n_rows = p.sizes[1] * p.sizes[2], row, i
    cdef real* out
    cdef const real* a
    for row in range(start_of(share, n_shares, n_rows), start_of(share + 1, n_shares, n_rows)):
        a = p.a + (row // p.sizes[1]) * p.a_steps[2] + (row % p.sizes[1]) * p.a_steps[1]
        out = <real*>p.out + row * n
        if p.moving[0] & FIRST_MOVES:
            copy_row(a, out, n)
        else:
            for i in range(n):
                out[i] = a[0]


def spread_over(y, shape, dims, keepdim):
    """See `plain_reduction.spread_over`."""
    cdef Broadcast p
    cdef bint[MAX_DIMS] is_reduced
    cdef cnp.npy_intp[MAX_DIMS] whole, part, out_dims
    cdef int ndim, i, k = 0
    cdef bint fits
    cdef double flop
    cdef cnp.ndarray x
    if (
        is_ours(y) and type(shape) is tuple and len(<tuple>shape) <= MAX_DIMS
        and mark(dims, <int>len(<tuple>shape), is_reduced)
    ):
        ndim = <int>len(<tuple>shape)
        fits = not keepdim or cnp.PyArray_NDIM(<cnp.ndarray>y) == ndim
        for i in range(ndim):
            whole[i] = (<tuple>shape)[i]
            part[i] = 1 if is_reduced[i] else whole[i]
            if keepdim or not is_reduced[i]:
                fits = fits and k < cnp.PyArray_NDIM(<cnp.ndarray>y) and cnp.PyArray_DIM(<cnp.ndarray>y, k) == part[i]
                k += 1
        if fits and k == cnp.PyArray_NDIM(<cnp.ndarray>y) and plan_loops(&p, ndim, part, ndim, whole, out_dims) == ndim:
            x = fresh(ndim, whole, REAL_TYPENUM)
            p.a = data(<cnp.ndarray>y)
            p.out = <char*>DATA_OF(x)
            flop = FLOP_PER_MOVE * cnp.PyArray_SIZE(x)
            if cnp.PyArray_SIZE(x) < KEEP_LOCK_BELOW:
                spread_worker(&p, 0, 1)
            else:
                with nogil:
                    run(spread_worker, &p, shares_of(flop, p.sizes[1] * p.sizes[2]))
            return x
    elif is_for_float64(y):
        return float64_kernels.spread_over(y, shape, dims, keepdim)
    return reduced_in_numpy.spread_over(y, shape, dims, keepdim)
