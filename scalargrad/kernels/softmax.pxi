# softmax and its logarithm along an axis, with their gradients: along a row, whose numbers are the lanes of vectors, or
# along columns, one in each lane. NaN in a sum makes the whole line NaN, so the maximum need not look for it. What the
# lanes hold is added to a double, or to a sum of sums, after at most 64 additions.

from libc.math cimport log as log_of_double

cdef enum:
    SOFTMAX, LOG_SOFTMAX, SOFTMAX_GRAD, LOG_SOFTMAX_GRAD

cdef enum:
    ADDITIONS = 64


cdef inline real largest_of_row(const real* x, Py_ssize_t n) noexcept nogil:
    cdef vec top = VSET1(<real>-INFINITY)
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        top = VMAX(top, at(x + i))
        i += VL
    if i < n:
        top = VMAX(top, VSELECT(FIRST_LANES(n - i), VLOADN(x + i, n - i), VSET1(<real>-INFINITY)))
    return across(LARGEST, top)


cdef inline vec term(int op, vec x, vec y, vec top) noexcept nogil:
    """What is summed along a line."""
    if op == SOFTMAX or op == LOG_SOFTMAX:
        return exp_of(x - top)
    return x * y if op == SOFTMAX_GRAD else x


cdef inline vec entry(int op, vec x, vec y, vec top, vec total) noexcept nogil:
    """What stands in the result, from the sum; for softmax its reciprocal, and x is what exp gave; for log_softmax its
    logarithm."""
    if op == SOFTMAX:
        return x * total
    if op == LOG_SOFTMAX:
        return (x - top) - total
    return (x - total) * y if op == SOFTMAX_GRAD else x - exp_of(y) * total


cdef inline void store(real* out, vec x, Py_ssize_t n) noexcept nogil:
    if n == VL:
        (<uvec*>out)[0] = x
    else:
        VSTOREN(out, x, n)


cdef inline double sum_of_row(int op, const real* x, const real* y, real* out, Py_ssize_t n, vec top) noexcept nogil:
    """Σ of the row's terms. softmax leaves them in `out`."""
    cdef double total = 0
    cdef Py_ssize_t i = 0, end, lanes
    cdef vec s, t
    while i < n:
        s = VZERO
        end = min(n, i + ADDITIONS * VL)
        while i < end:
            lanes = min(end - i, VL)
            t = term(op, load(x + i, lanes), VZERO if y == NULL else load(y + i, lanes), top)
            if lanes < VL:
                t = VAND(t, FIRST_LANES(lanes))
            if op == SOFTMAX:
                store(out + i, t, lanes)
            s = s + t
            i += VL
        total += across(SUM, s)
    return total


cdef inline void row_along(int op, const real* x, const real* y, real* out, Py_ssize_t n) noexcept nogil:
    cdef vec top = VZERO, total
    cdef double sum_of_terms
    cdef Py_ssize_t i = 0, lanes
    if op == SOFTMAX or op == LOG_SOFTMAX:
        top = VSET1(largest_of_row(x, n))
    sum_of_terms = sum_of_row(op, x, y, out, n, top)
    if op == SOFTMAX:
        x = out
        sum_of_terms = 1 / sum_of_terms
    elif op == LOG_SOFTMAX:
        sum_of_terms = log_of_double(sum_of_terms)
    total = VSET1(<real>sum_of_terms)
    while i < n:
        lanes = min(n - i, VL)
        store(out + i, entry(op, load(x + i, lanes), VZERO if y == NULL else load(y + i, lanes), top, total), lanes)
        i += VL


cdef inline void columns_along(int op, const real* x, const real* y, real* out, Py_ssize_t n, Py_ssize_t step,
                               Py_ssize_t lanes) noexcept nogil:
    """The same for `lanes` columns next to each other: n rows, `step` apart."""
    cdef vec top = VSET1(<real>-INFINITY), total = VZERO, part = VZERO, t
    cdef Py_ssize_t i
    if op == SOFTMAX or op == LOG_SOFTMAX:
        for i in range(n):
            top = VMAX(top, load(x + i * step, lanes))
    for i in range(n):
        t = term(op, load(x + i * step, lanes), VZERO if y == NULL else load(y + i * step, lanes), top)
        if op == SOFTMAX:
            store(out + i * step, t, lanes)
        part = part + t
        if i % ADDITIONS == ADDITIONS - 1:
            total = total + part
            part = VZERO
    total = total + part
    if op == SOFTMAX:
        x = out
        total = VSET1(<real>1) / total
    elif op == LOG_SOFTMAX:
        total = log_of(total)
    for i in range(n):
        store(out + i * step, entry(op, load(x + i * step, lanes), VZERO if y == NULL else load(y + i * step, lanes), top,
                                    total), lanes)


# n_outer times n times n_inner numbers, of which the n are a line.
cdef struct Lines:
    int op
    const real* x
    const real* y
    real* out
    Py_ssize_t n_outer, n, n_inner, n_strips


cdef inline void line(int op, Lines* l, Py_ssize_t at_number, Py_ssize_t lanes) noexcept nogil:
    if l.n_inner == 1:
        row_along(op, l.x + at_number, after(l.y, at_number), l.out + at_number, l.n)
    elif lanes == VL:
        columns_along(op, l.x + at_number, after(l.y, at_number), l.out + at_number, l.n, l.n_inner, VL)
    else:
        columns_along(op, l.x + at_number, after(l.y, at_number), l.out + at_number, l.n, l.n_inner, lanes)


cdef void lines_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Lines* l = <Lines*>job
    cdef Py_ssize_t n_units = l.n_outer * l.n_strips, unit, first, strip
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        strip = unit % l.n_strips
        first = (unit // l.n_strips) * l.n * l.n_inner + strip * VL
        if l.op == SOFTMAX:
            line(SOFTMAX, l, first, min(l.n_inner - strip * VL, VL))
        elif l.op == LOG_SOFTMAX:
            line(LOG_SOFTMAX, l, first, min(l.n_inner - strip * VL, VL))
        elif l.op == SOFTMAX_GRAD:
            line(SOFTMAX_GRAD, l, first, min(l.n_inner - strip * VL, VL))
        else:
            line(LOG_SOFTMAX_GRAD, l, first, min(l.n_inner - strip * VL, VL))


cdef along_axis(int op, str name, object x, str x_name, object y, object axis):
    """A line of x, and of y if there is one, at a time."""
    cdef cnp.ndarray given = take(name, x_name, x), second = None if y is None else take(name, "result", y), out
    cdef int ndim = cnp.PyArray_NDIM(given), where = axis, i
    cdef Lines l
    if second is not None and not same_shape(given, second):
        words.check_same_shape(name, **{x_name: given, "result": second})
    if where < 0 and where + ndim >= 0:
        where += ndim
    if not 0 <= where < ndim:
        where = words.check_axis(name, where, ndim)
    out = fresh_like(given)
    l.op = op
    l.x = data(given)
    l.y = NULL if second is None else data(second)
    l.out = data(out)
    l.n_outer = l.n = l.n_inner = 1
    for i in range(ndim):
        if i < where:
            l.n_outer *= cnp.PyArray_DIM(given, i)
        elif i == where:
            l.n = cnp.PyArray_DIM(given, i)
        else:
            l.n_inner *= cnp.PyArray_DIM(given, i)
    if l.n == 0 or l.n_outer == 0 or l.n_inner == 0:
        return out
    l.n_strips = (l.n_inner + VL - 1) // VL
    if l.n_outer * l.n * l.n_inner < KEEP_LOCK_BELOW:
        lines_worker(&l, 0, 1)
    else:
        with nogil:
            run(lines_worker, &l, shares_of(FLOP_PER_FUNCTION * l.n_outer * l.n * l.n_inner, l.n_outer * l.n_strips))
    return out


def softmax(x, axis):
    """See `plain.softmax`."""
    if is_for_float64(x):
        return float64_kernels.softmax(x, axis)
    return along_axis(SOFTMAX, "softmax", x, "input", None, axis)


def log_softmax(x, axis):
    """See `plain.log_softmax`."""
    if is_for_float64(x):
        return float64_kernels.log_softmax(x, axis)
    return along_axis(LOG_SOFTMAX, "log_softmax", x, "input", None, axis)


def softmax_grad(g, y, axis):
    """See `plain.softmax_grad`."""
    if is_for_float64(g):
        return float64_kernels.softmax_grad(g, y, axis)
    return along_axis(SOFTMAX_GRAD, "softmax_grad", g, "grad", y, axis)


def log_softmax_grad(g, y, axis):
    """See `plain.log_softmax_grad`."""
    if is_for_float64(g):
        return float64_kernels.log_softmax_grad(g, y, axis)
    return along_axis(LOG_SOFTMAX_GRAD, "log_softmax_grad", g, "grad", y, axis)
