# Entries chosen by number along an axis, and added to. Arrays are seen as outer × n × inner numbers, the n along the
# axis. What is no contiguous array of this module's type, or an index that leaves the axis, goes on to `plain_indexing`,
# which says what each function is. Sums are in the index's order: threads have parts of the outer or inner axes.
from libc.stdint cimport int64_t, uint64_t

from scalargrad.kernels import plain_indexing as indexed_in_numpy

cdef enum:
    GATHER, SCATTER_ADD, INDEX_ADD

cdef struct Indexing:
    int op
    real* x           # outer × n × inner: read by GATHER, else added to
    real* part        # outer × n_index × inner
    const int64_t* index
    Py_ssize_t outer, n, n_index, inner, n_strips


cdef inline void add_numbers(real* x, const real* part, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        (<uvec*>(x + i))[0] = at(x + i) + at(part + i)
        i += VL
    if i < n:
        VSTOREN(x + i, VLOADN(x + i, n - i) + VLOADN(part + i, n - i), n - i)


cdef void indexing_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Indexing* w = <Indexing*>job
    cdef Py_ssize_t n_units = w.outer * w.n_strips, unit, o, i, k, first, last
    cdef real* x
    cdef real* part
    cdef const int64_t* index
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        o = unit // w.n_strips
        first = start_of(unit % w.n_strips, w.n_strips, w.inner)
        last = start_of(unit % w.n_strips + 1, w.n_strips, w.inner)
        x = w.x + o * w.n * w.inner
        if w.inner == 1 and w.op != INDEX_ADD:
            part = w.part + o * w.n_index
            index = w.index + o * w.n_index
            if w.op == GATHER:
                for i in range(w.n_index):
                    part[i] = x[index[i]]
            else:
                for i in range(w.n_index):
                    x[index[i]] += part[i]
            continue
        for i in range(w.n_index):
            part = w.part + (o * w.n_index + i) * w.inner
            if w.op == INDEX_ADD:
                add_numbers(x + w.index[i] * w.inner + first, part + first, last - first)
                continue
            index = w.index + (o * w.n_index + i) * w.inner
            if w.op == GATHER:
                for k in range(first, last):
                    part[k] = x[index[k] * w.inner + k]
            else:
                for k in range(first, last):
                    x[index[k] * w.inner + k] += part[k]


cdef bint find_indexing(Indexing* w, int op, object x, object dim, object index, object part):
    """Whether the loops can do it. `part` is None for what is yet to be made."""
    cdef cnp.ndarray whole, places, piece
    cdef int ndim, axis, i
    cdef Py_ssize_t k
    cdef bint beyond = False
    if not is_ours(x) or not PyLong_CheckExact(dim) or not cnp.PyArray_CheckExact(index):
        return False
    whole = <cnp.ndarray>x
    places = <cnp.ndarray>index
    ndim = cnp.PyArray_NDIM(whole)
    if not 0 <= dim < ndim or cnp.PyArray_TYPE(places) != cnp.NPY_INT64 or not cnp.PyArray_ISCARRAY_RO(places):
        return False
    if cnp.PyArray_NDIM(places) != (1 if op == INDEX_ADD else ndim):
        return False
    axis = dim
    w.n_index = cnp.PyArray_DIM(places, 0 if op == INDEX_ADD else axis)
    if part is not None:
        if not is_ours(part) or cnp.PyArray_NDIM(<cnp.ndarray>part) != ndim:
            return False
        piece = <cnp.ndarray>part
        if not cnp.PyArray_ISWRITEABLE(whole) or cnp.PyArray_DIM(piece, axis) != w.n_index:
            return False
        if share_memory(whole, piece):
            return False
    w.op = op
    w.outer = w.inner = 1
    for i in range(ndim):
        if i == axis:
            continue
        if op != INDEX_ADD and cnp.PyArray_DIM(places, i) != cnp.PyArray_DIM(whole, i):
            return False
        if part is not None and cnp.PyArray_DIM(piece, i) != cnp.PyArray_DIM(whole, i):
            return False
        if i < axis:
            w.outer *= cnp.PyArray_DIM(whole, i)
        else:
            w.inner *= cnp.PyArray_DIM(whole, i)
    w.n = cnp.PyArray_DIM(whole, axis)
    w.x = data(whole)
    w.part = NULL if part is None else data(piece)
    w.index = <const int64_t*>DATA_OF(places)
    for k in range(cnp.PyArray_SIZE(places)):  # without a branch, which the compiler makes vectors of
        beyond |= <uint64_t>w.index[k] >= <uint64_t>w.n
    if beyond:
        return False
    # Of one block, threads have strips of at least a cache line.
    w.n_strips = 1 if w.outer > 1 else max(1, w.inner // 64)
    return True


cdef inline bint share_memory(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two contiguous arrays overlap."""
    return (
        data(a) < data(b) + cnp.PyArray_SIZE(b) and data(b) < data(a) + cnp.PyArray_SIZE(a)
    )


cdef void carry_out(Indexing* w) except *:
    cdef double n = <double>w.outer * w.n_index * w.inner
    if n < KEEP_LOCK_BELOW:
        indexing_worker(w, 0, 1)
    else:
        with nogil:
            run(indexing_worker, w, shares_of(FLOP_PER_MOVE * n, w.outer * w.n_strips))


def gather(x, dim, index):
    """See `plain_indexing.gather`."""
    cdef Indexing w
    cdef cnp.ndarray y
    if is_for_float64(x):
        return float64_kernels.gather(x, dim, index)
    if not find_indexing(&w, GATHER, x, dim, index, None):
        return indexed_in_numpy.gather(x, dim, index)
    y = fresh(cnp.PyArray_NDIM(<cnp.ndarray>index), cnp.PyArray_DIMS(<cnp.ndarray>index), REAL_TYPENUM)
    w.part = data(y)
    carry_out(&w)
    return y


def scatter_add(y, dim, index, src):
    """See `plain_indexing.scatter_add`."""
    cdef Indexing w
    if is_for_float64(y):
        return float64_kernels.scatter_add(y, dim, index, src)
    if not find_indexing(&w, SCATTER_ADD, y, dim, index, src):
        return indexed_in_numpy.scatter_add(y, dim, index, src)
    carry_out(&w)
    return y


def index_add(y, dim, index, src):
    """See `plain_indexing.index_add`."""
    cdef Indexing w
    if is_for_float64(y):
        return float64_kernels.index_add(y, dim, index, src)
    if not find_indexing(&w, INDEX_ADD, y, dim, index, src):
        return indexed_in_numpy.index_add(y, dim, index, src)
    carry_out(&w)
    return y
