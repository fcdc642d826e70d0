# relu and softmax, with their gradients.

cdef struct Elementwise:
    const real* x
    const real* y
    real* out
    Py_ssize_t n


cdef void relu_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Elementwise* e = <Elementwise*>job
    cdef Py_ssize_t i = start_of(share, n_shares, e.n), end = start_of(share + 1, n_shares, e.n)
    cdef vec x
    while i + VL <= end:
        x = (<const uvec*>(e.x + i))[0]
        (<uvec*>(e.out + i))[0] = VANDNOT(x, VLESS0(x))
        i += VL
    if i < end:
        x = VLOADN(e.x + i, end - i)
        VSTOREN(e.out + i, VANDNOT(x, VLESS0(x)), end - i)


cdef void relu_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Elementwise* e = <Elementwise*>job
    cdef Py_ssize_t i = start_of(share, n_shares, e.n), end = start_of(share + 1, n_shares, e.n)
    cdef vec y
    while i + VL <= end:
        y = (<const uvec*>(e.y + i))[0]
        (<uvec*>(e.out + i))[0] = VANDNOT((<const uvec*>(e.x + i))[0], VLESSEQ0(y))
        i += VL
    if i < end:
        y = VLOADN(e.y + i, end - i)
        VSTOREN(e.out + i, VANDNOT(VLOADN(e.x + i, end - i), VLESSEQ0(y)), end - i)


def relu(x):
    """See `plain.relu`."""
    if is_for_float64(x):
        return float64_kernels.relu(x)
    cdef cnp.ndarray given = take("relu", "input", x), y = fresh_like(given)
    cdef Elementwise e
    e.x = data(given)
    e.out = data(y)
    e.n = cnp.PyArray_SIZE(given)
    with nogil:
        run(relu_worker, &e, shares_of(4.0 * e.n, e.n))
    return y


def relu_grad(g, y):
    """See `plain.relu_grad`."""
    if is_for_float64(g):
        return float64_kernels.relu_grad(g, y)
    cdef cnp.ndarray g_given = take("relu_grad", "grad", g), y_given = take("relu_grad", "result", y)
    if not same_shape(g_given, y_given):
        words.check_same_shape("relu_grad", grad=g_given, result=y_given)
    cdef cnp.ndarray x_grad = fresh_like(g_given)
    cdef Elementwise e
    e.x = data(g_given)
    e.y = data(y_given)
    e.out = data(x_grad)
    e.n = cnp.PyArray_SIZE(g_given)
    with nogil:
        run(relu_grad_worker, &e, shares_of(4.0 * e.n, e.n))
    return x_grad


# The four functions along an axis, one row at a time. Sums are taken in double precision: a row is a whole vocabulary
# at worst.

ctypedef void (*row_t)(const real* x, const real* y, real* out, Py_ssize_t n) noexcept nogil


cdef inline real largest(const real* x, Py_ssize_t n) noexcept nogil:
    """The maximum, or NaN if there is one."""
    cdef real best = x[0]
    cdef Py_ssize_t i
    for i in range(1, n):
        if x[i] > best or x[i] != x[i]:
            best = x[i]
    return best


cdef void softmax_row(const real* x, const real* y, real* out, Py_ssize_t n) noexcept nogil:
    cdef real top = largest(x, n)
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = EXP(x[i] - top)
        total += out[i]
    for i in range(n):
        out[i] = <real>(out[i] / total)


cdef void log_softmax_row(const real* x, const real* y, real* out, Py_ssize_t n) noexcept nogil:
    cdef real top = largest(x, n), log_total
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += EXP(x[i] - top)
    log_total = LOG(<real>total)
    for i in range(n):
        out[i] = x[i] - top - log_total


cdef void softmax_grad_row(const real* g, const real* y, real* out, Py_ssize_t n) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += <double>g[i] * y[i]
    for i in range(n):
        out[i] = (g[i] - <real>total) * y[i]


cdef void log_softmax_grad_row(const real* g, const real* y, real* out, Py_ssize_t n) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += g[i]
    for i in range(n):
        out[i] = g[i] - EXP(y[i]) * <real>total


cdef struct Rows:
    row_t row
    const real* x
    const real* y
    real* out
    Py_ssize_t n_rows, n


cdef void rows_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Rows* r = <Rows*>job
    cdef Py_ssize_t i
    for i in range(start_of(share, n_shares, r.n_rows), start_of(share + 1, n_shares, r.n_rows)):
        r.row(r.x + i * r.n, after(r.y, i * r.n), r.out + i * r.n, r.n)


cdef along_axis(str op, row_t row, object x, str x_name, object y, object axis):
    """`row` along an axis of x, and of y if there is one. Another axis than the last is moved there and back."""
    cdef cnp.ndarray given = take(op, x_name, x), second = None if y is None else take(op, "result", y), out
    cdef int ndim = cnp.PyArray_NDIM(given), at = axis
    if second is not None and not same_shape(given, second):
        words.check_same_shape(op, **{x_name: given, "result": second})
    if at != -1 and at != ndim - 1:
        at = words.check_axis(op, at, ndim)
        if at != ndim - 1 and ndim > 1:
            moved = np.moveaxis(given, at, -1)
            moved = along_axis(op, row, moved, x_name, None if second is None else np.moveaxis(second, at, -1), -1)
            return np.ascontiguousarray(np.moveaxis(moved, -1, at))
    out = fresh_like(given)
    cdef Rows r
    r.row = row
    r.x = data(given)
    r.y = NULL if second is None else data(second)
    r.out = data(out)
    r.n = cnp.PyArray_DIM(given, ndim - 1) if ndim > 0 else 1
    if r.n == 0:
        return out
    r.n_rows = cnp.PyArray_SIZE(given) // r.n
    with nogil:
        run(rows_worker, &r, shares_of(20.0 * r.n_rows * r.n, r.n_rows))
    return out


def softmax(x, axis):
    """See `plain.softmax`."""
    if is_for_float64(x):
        return float64_kernels.softmax(x, axis)
    return along_axis("softmax", softmax_row, x, "input", None, axis)


def log_softmax(x, axis):
    """See `plain.log_softmax`."""
    if is_for_float64(x):
        return float64_kernels.log_softmax(x, axis)
    return along_axis("log_softmax", log_softmax_row, x, "input", None, axis)


def softmax_grad(g, y, axis):
    """See `plain.softmax_grad`."""
    if is_for_float64(g):
        return float64_kernels.softmax_grad(g, y, axis)
    return along_axis("softmax_grad", softmax_grad_row, g, "grad", y, axis)


def log_softmax_grad(g, y, axis):
    """See `plain.log_softmax_grad`."""
    if is_for_float64(g):
        return float64_kernels.log_softmax_grad(g, y, axis)
    return along_axis("log_softmax_grad", log_softmax_grad_row, g, "grad", y, axis)
