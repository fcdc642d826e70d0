# Copies of arrays whose axes lie in another order: squares of VL × VL numbers, transposed in registers. NumPy copies such
# an array number by number: 512 × 1024, transposed, in 1.07 ms for 0.11.
cdef extern from *:
    """
    /* Vector i's lane k goes to vector k's lane i. */
    static inline void transpose(vec* p) {
        vec q[VLEN];
        for (int s = 1; s < VLEN; s *= 2) {
            for (int k = 0; k < VLEN / 2; k++) {
                q[2 * k] = ZIP_LOW(p[k], p[k + VLEN / 2]);
                q[2 * k + 1] = ZIP_HIGH(p[k], p[k + VLEN / 2]);
            }
            for (int k = 0; k < VLEN; k++) p[k] = q[k];
        }
    }
    """
    void transpose(vec*) nogil

cdef enum:
    MAX_AXES = 64

# Axes next to each other that lie so in memory, too, are one. One of them has the step 1, and it is not the last.
cdef struct Turn:
    const real* x
    real* out
    int ndim, near     # `near` is the axis whose step is 1
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t steps[MAX_AXES]      # of x, in numbers
    Py_ssize_t out_steps[MAX_AXES]
    Py_ssize_t n_strips             # of VL numbers along `near`


cdef bint find_turn(cnp.ndarray x, Turn* t) noexcept:
    """Whether copying x is to exchange the last axis with another, along which its numbers lie next to each other."""
    cdef int i
    cdef Py_ssize_t size, step
    t.ndim = 0
    for i in range(cnp.PyArray_NDIM(x)):
        size = cnp.PyArray_DIM(x, i)
        step = cnp.PyArray_STRIDE(x, i) // <Py_ssize_t>sizeof(real)
        if size == 0:
            return False
        if size == 1:
            continue
        if t.ndim > 0 and t.steps[t.ndim - 1] == size * step:
            t.sizes[t.ndim - 1] *= size
            t.steps[t.ndim - 1] = step
        else:
            t.sizes[t.ndim] = size
            t.steps[t.ndim] = step
            t.ndim += 1
    t.near = -1
    for i in range(t.ndim - 1):
        if t.steps[i] == 1 and (t.near < 0 or t.sizes[i] > t.sizes[t.near]):
            t.near = i
    return t.near >= 0 and t.steps[t.ndim - 1] != 1


cdef void turn_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Turn* t = <Turn*>job
    cdef Py_ssize_t n = t.sizes[t.near], n_last = t.sizes[t.ndim - 1], step = t.steps[t.ndim - 1]
    cdef Py_ssize_t out_step = t.out_steps[t.near], n_units = t.n_strips, unit, rest, i, j, k, lanes, rows
    cdef const real* x
    cdef real* out
    cdef vec[16] p  # VL of them
    cdef int axis
    for axis in range(t.ndim - 1):
        if axis != t.near:
            n_units *= t.sizes[axis]
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        i = (unit % t.n_strips) * VL
        rest = unit // t.n_strips
        x = t.x + i
        out = t.out + i * out_step
        for axis in range(t.ndim - 2, -1, -1):
            if axis != t.near:
                x += (rest % t.sizes[axis]) * t.steps[axis]
                out += (rest % t.sizes[axis]) * t.out_steps[axis]
                rest //= t.sizes[axis]
        lanes = min(n - i, VL)
        j = 0
        while j < n_last:
            rows = min(n_last - j, VL)
            if lanes == VL and rows == VL:
                for k in range(VL):
                    p[k] = (<const uvec*>(x + (j + k) * step))[0]
                transpose(p)
                for k in range(VL):
                    (<uvec*>(out + k * out_step + j))[0] = p[k]
            else:
                for k in range(VL):
                    p[k] = VLOADN(x + (j + k) * step, lanes) if k < rows else VZERO
                transpose(p)
                for k in range(lanes):
                    VSTOREN(out + k * out_step + j, p[k], rows)
            j += VL


cdef cnp.ndarray turned(cnp.ndarray x):
    """A C-contiguous copy of x, aligned numbers of this module's type, if `find_turn` finds one in it; else None."""
    cdef Turn t
    cdef cnp.ndarray y
    cdef Py_ssize_t size = 1
    cdef int i
    if cnp.PyArray_NDIM(x) < 2 or not strides_are_whole(x) or not find_turn(x, &t):
        return None
    y = fresh_like(x)
    for i in range(t.ndim - 1, -1, -1):
        t.out_steps[i] = size
        size *= t.sizes[i]
    t.x = data(x)
    t.out = data(y)
    t.n_strips = (t.sizes[t.near] + VL - 1) // VL
    with nogil:
        run(turn_worker, &t, shares_of(4.0 * size, size // t.sizes[t.ndim - 1] // t.sizes[t.near] * t.n_strips))
    return y


def contiguous(x):
    """See `plain_elementwise.contiguous`."""
    cdef cnp.ndarray y = None
    if is_for_float64(x):
        return float64_kernels.contiguous(x)
    if cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == REAL_TYPENUM:
        if cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>x):
            y = turned(<cnp.ndarray>x)
        if y is None:
            y = fresh_like(<cnp.ndarray>x)
            cnp.PyArray_CopyInto(y, <cnp.ndarray>x)
        return y
    return np.array(x, order="C")
