# Pooling of planes: max_pool2d, its gradient and its gather, and avg_pool2d with its gradient. Taps are the outer loops
# and a row of outputs the inner one. 2 x 2 windows side by side, the usual ones, have a path of their own for the
# maximum.

cdef struct Pool:
    Py_ssize_t n_planes, H, W, P, Q
    Py_ssize_t[2] kernel
    Py_ssize_t[2] stride
    Py_ssize_t[2] padding
    Py_ssize_t[2] dilation
    const real* x
    real* y
    void* offsets
    bint offsets_are_bytes
    Py_ssize_t* divisors  # of an average: rows, then columns; or NULL with one divisor for all
    double divisor
    char* scratch
    Py_ssize_t n_scratch_bytes


cdef inline bint is_two_by_two(Pool* p) noexcept nogil:
    return (
        p.kernel[0] == 2 and p.kernel[1] == 2 and p.stride[0] == 2 and p.stride[1] == 2
        and p.padding[0] == 0 and p.padding[1] == 0 and p.dilation[0] == 1 and p.dilation[1] == 1
        and p.P == p.H // 2 and p.Q == p.W // 2
    )


cdef inline void outputs_inside(Py_ssize_t size, Py_ssize_t n_outputs, Py_ssize_t stride, Py_ssize_t at,
                                Py_ssize_t* first, Py_ssize_t* end) noexcept nogil:
    """The outputs q for which a tap at q·stride + at lies inside the image."""
    first[0] = ceil_div(-at, stride) if at < 0 else 0
    end[0] = min(ceil_div(size - at, stride), n_outputs) if size > at else 0


cdef Py_ssize_t first_tap_inside(Py_ssize_t at, Py_ssize_t dilation, Py_ssize_t kernel) noexcept nogil:
    cdef Py_ssize_t tap = ceil_div(-at, dilation) if at < 0 else 0
    return tap if tap < kernel else 0


cdef inline void two_by_two(vec a, vec b, vec c, vec d, vec* y, ivec* offset) noexcept nogil:
    """Largest of each window, from two vectors of its upper row and two of its lower."""
    cdef vec best = EVENS(a, b), tap = ODDS(a, b)
    cdef ivec number = IZERO, wins = VWINS(tap, best)
    best = VSELECT(wins, tap, best)
    number = ISELECT(wins, ISET1(1), number)
    tap = EVENS(c, d)
    wins = VWINS(tap, best)
    best = VSELECT(wins, tap, best)
    number = ISELECT(wins, ISET1(2), number)
    tap = ODDS(c, d)
    wins = VWINS(tap, best)
    y[0] = VSELECT(wins, tap, best)
    offset[0] = ISELECT(wins, ISET1(3), number)


cdef void max_pool_two_by_two(Pool* p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t plane, i, j, rest = p.Q % VL, low = min(2 * rest, VL), high = 2 * rest - low
    cdef const real* upper
    cdef const real* lower
    cdef real* y = p.y + first * p.P * p.Q
    cdef u8* offsets = <u8*>p.offsets + first * p.P * p.Q
    cdef u8* last_row = <u8*>p.offsets + (end * p.P - 1) * p.Q
    cdef vec best
    cdef ivec number
    for plane in range(first, end):
        for i in range(p.P):
            upper = p.x + (plane * p.H + 2 * i) * p.W
            lower = upper + p.W
            for j in range(p.Q // VL):
                two_by_two((<const uvec*>upper)[0], (<const uvec*>(upper + VL))[0], (<const uvec*>lower)[0],
                           (<const uvec*>(lower + VL))[0], &best, &number)
                (<uvec*>y)[0] = best
                (<u8vec*>offsets)[0] = TO_BYTES(number)
                y += VL
                offsets += VL
                upper += 2 * VL
                lower += 2 * VL
            if rest:
                two_by_two(VLOADN(upper, low), VLOADN(upper + VL, high), VLOADN(lower, low), VLOADN(lower + VL, high),
                           &best, &number)
                VSTOREN(y, best, rest)
                # A whole vector of offsets is stored where later rows write over what is too much.
                if offsets + VL <= last_row:
                    (<u8vec*>offsets)[0] = TO_BYTES(number)
                else:
                    STORE_BYTES(offsets, TO_BYTES(number), rest)
                y += rest
                offsets += rest


cdef void max_pool_grad_two_by_two(Pool* p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """x is the outputs' gradient, y the inputs'."""
    cdef Py_ssize_t plane, i, j, rest = p.Q % VL, low = min(2 * rest, VL), high = 2 * rest - low
    cdef const real* g = p.x + first * p.P * p.Q
    cdef const u8* offsets = <const u8*>p.offsets + first * p.P * p.Q
    cdef const u8* last_vector = <const u8*>p.offsets + p.n_planes * p.P * p.Q - VL
    cdef real* upper
    cdef real* lower
    cdef vec g_here, a, b, c, d
    cdef ivec number
    for plane in range(first, end):
        for i in range(p.P):
            upper = p.y + (plane * p.H + 2 * i) * p.W
            lower = upper + p.W
            for j in range(ceil_div(p.Q, VL)):
                if j < p.Q // VL:
                    g_here = (<const uvec*>g)[0]
                else:
                    g_here = VLOADN(g, rest)
                if offsets <= last_vector:
                    number = FROM_BYTES((<const u8vec*>offsets)[0])
                else:
                    number = FROM_BYTES(LOAD_BYTES(offsets, min(p.Q - j * VL, VL)))
                a = VAND(g_here, IEQUAL(number, 0))
                b = VAND(g_here, IEQUAL(number, 1))
                c = VAND(g_here, IEQUAL(number, 2))
                d = VAND(g_here, IEQUAL(number, 3))
                if j < p.Q // VL:
                    (<uvec*>upper)[0] = ZIP_LOW(a, b)
                    (<uvec*>(upper + VL))[0] = ZIP_HIGH(a, b)
                    (<uvec*>lower)[0] = ZIP_LOW(c, d)
                    (<uvec*>(lower + VL))[0] = ZIP_HIGH(c, d)
                    upper += 2 * VL
                    lower += 2 * VL
                    g += VL
                    offsets += VL
                else:
                    VSTOREN(upper, ZIP_LOW(a, b), low)
                    VSTOREN(lower, ZIP_LOW(c, d), low)
                    if high > 0:
                        VSTOREN(upper + VL, ZIP_HIGH(a, b), high)
                        VSTOREN(lower + VL, ZIP_HIGH(c, d), high)
                    upper += 2 * rest
                    lower += 2 * rest
                    g += rest
                    offsets += rest
            if p.W & 1:
                upper[0] = 0
                lower[0] = 0
        if p.H & 1:
            memset(p.y + (plane * p.H + p.H - 1) * p.W, 0, p.W * sizeof(real))


cdef inline void keep_larger(Py_ssize_t first, Py_ssize_t end, Py_ssize_t stride, const real* x, ireal number, real* y,
                             ireal* numbers) noexcept nogil:
    cdef Py_ssize_t q
    cdef real value
    cdef bint wins
    for q in range(first, end):
        value = x[q * stride]
        wins = (value > y[q]) | (value != value)
        y[q] = value if wins else y[q]
        numbers[q] = number if wins else numbers[q]


cdef void max_pool_planes(Pool* p, Py_ssize_t first, Py_ssize_t end, ireal* numbers) noexcept nogil:
    """`numbers` is a row of outputs long, and after it lies another with the first taps inside."""
    cdef Py_ssize_t plane, i, q, r, s, h, at, q_first, q_end, out
    cdef ireal* first_taps = numbers + p.Q
    cdef const real* row
    cdef real* y
    for q in range(p.Q):
        first_taps[q] = <ireal>first_tap_inside(q * p.stride[1] - p.padding[1], p.dilation[1], p.kernel[1])
    for plane in range(first, end):
        for i in range(p.P):
            out = (plane * p.P + i) * p.Q
            y = p.y + out
            r = first_tap_inside(i * p.stride[0] - p.padding[0], p.dilation[0], p.kernel[0])
            for q in range(p.Q):
                y[q] = <real>-INFINITY
                numbers[q] = <ireal>(r * p.kernel[1]) + first_taps[q]
            for r in range(p.kernel[0]):
                h = i * p.stride[0] - p.padding[0] + r * p.dilation[0]
                if h < 0 or h >= p.H:
                    continue
                row = p.x + (plane * p.H + h) * p.W
                for s in range(p.kernel[1]):
                    at = s * p.dilation[1] - p.padding[1]
                    outputs_inside(p.W, p.Q, p.stride[1], at, &q_first, &q_end)
                    # The usual strides as constants, for the compiler to use its shuffles.
                    if p.stride[1] == 1:
                        keep_larger(q_first, q_end, 1, row + at, <ireal>(r * p.kernel[1] + s), y, numbers)
                    elif p.stride[1] == 2:
                        keep_larger(q_first, q_end, 2, row + at, <ireal>(r * p.kernel[1] + s), y, numbers)
                    else:
                        keep_larger(q_first, q_end, p.stride[1], row + at, <ireal>(r * p.kernel[1] + s), y, numbers)
            if p.offsets_are_bytes:
                for q in range(p.Q):
                    (<u8*>p.offsets)[out + q] = <u8>numbers[q]
            else:
                for q in range(p.Q):
                    (<int32_t*>p.offsets)[out + q] = <int32_t>numbers[q]


cdef inline Py_ssize_t winner(Pool* p, Py_ssize_t out, Py_ssize_t i, Py_ssize_t q) noexcept nogil:
    """Where in its plane the winner of output (i, q) lies; -1 if its offset names no entry of the image."""
    cdef Py_ssize_t number, h, w
    if p.offsets_are_bytes:
        number = (<const u8*>p.offsets)[out]
    else:
        number = (<const int32_t*>p.offsets)[out]
    if number < 0 or number >= p.kernel[0] * p.kernel[1]:
        return -1
    h = i * p.stride[0] - p.padding[0] + (number // p.kernel[1]) * p.dilation[0]
    w = q * p.stride[1] - p.padding[1] + (number % p.kernel[1]) * p.dilation[1]
    if h < 0 or h >= p.H or w < 0 or w >= p.W:
        return -1
    return h * p.W + w


cdef void max_pool_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = start_of(share, n_shares, p.n_planes), end = start_of(share + 1, n_shares, p.n_planes)
    if is_two_by_two(p):
        max_pool_two_by_two(p, first, end)
    else:
        max_pool_planes(p, first, end, <ireal*>(p.scratch + share * p.n_scratch_bytes))


cdef void max_pool_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = start_of(share, n_shares, p.n_planes), end = start_of(share + 1, n_shares, p.n_planes)
    cdef Py_ssize_t plane, i, q, out, at
    if is_two_by_two(p):
        max_pool_grad_two_by_two(p, first, end)
        return
    for plane in range(first, end):
        memset(p.y + plane * p.H * p.W, 0, p.H * p.W * sizeof(real))
        for i in range(p.P):
            for q in range(p.Q):
                out = (plane * p.P + i) * p.Q + q
                at = winner(p, out, i, q)
                if at >= 0:
                    p.y[plane * p.H * p.W + at] += p.x[out]


cdef void max_pool_take_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t plane, i, q, out, at
    for plane in range(start_of(share, n_shares, p.n_planes), start_of(share + 1, n_shares, p.n_planes)):
        for i in range(p.P):
            for q in range(p.Q):
                out = (plane * p.P + i) * p.Q + q
                at = winner(p, out, i, q)
                p.y[out] = p.x[plane * p.H * p.W + at] if at >= 0 else 0


cdef inline real divisor_of(Pool* p, Py_ssize_t i, Py_ssize_t q) noexcept nogil:
    return <real>p.divisor if p.divisors == NULL else <real>(p.divisors[i] * p.divisors[p.P + q])


cdef void avg_pool_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t plane, i, q, r, s, h, at, first, end
    cdef const real* row
    cdef real* y
    for plane in range(start_of(share, n_shares, p.n_planes), start_of(share + 1, n_shares, p.n_planes)):
        for i in range(p.P):
            y = p.y + (plane * p.P + i) * p.Q
            memset(y, 0, p.Q * sizeof(real))
            for r in range(p.kernel[0]):
                h = i * p.stride[0] - p.padding[0] + r
                if h < 0 or h >= p.H:
                    continue
                for s in range(p.kernel[1]):
                    at = s - p.padding[1]
                    row = p.x + (plane * p.H + h) * p.W + at
                    outputs_inside(p.W, p.Q, p.stride[1], at, &first, &end)
                    for q in range(first, end):
                        y[q] += row[q * p.stride[1]]
            for q in range(p.Q):
                y[q] /= divisor_of(p, i, q)


cdef void avg_pool_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """x is the outputs' gradient, y the inputs'."""
    cdef Pool* p = <Pool*>job
    cdef real* shares = <real*>(p.scratch + share * p.n_scratch_bytes)
    cdef Py_ssize_t plane, i, q, r, s, h, at, first, end
    cdef real* row
    cdef const real* g
    for plane in range(start_of(share, n_shares, p.n_planes), start_of(share + 1, n_shares, p.n_planes)):
        memset(p.y + plane * p.H * p.W, 0, p.H * p.W * sizeof(real))
        for i in range(p.P):
            g = p.x + (plane * p.P + i) * p.Q
            for q in range(p.Q):
                shares[q] = g[q] / divisor_of(p, i, q)
            for r in range(p.kernel[0]):
                h = i * p.stride[0] - p.padding[0] + r
                if h < 0 or h >= p.H:
                    continue
                for s in range(p.kernel[1]):
                    at = s - p.padding[1]
                    row = p.y + (plane * p.H + h) * p.W + at
                    outputs_inside(p.W, p.Q, p.stride[1], at, &first, &end)
                    for q in range(first, end):
                        row[q * p.stride[1]] += shares[q]


cdef int run_pool(Pool* p, worker_t worker) noexcept nogil:
    """-1 where there is no memory for a row."""
    cdef Py_ssize_t n_shares = shares_of(4.0 * p.n_planes * p.P * p.Q * p.kernel[0] * p.kernel[1], p.n_planes)
    cdef void* memory
    if p.n_planes == 0:
        return 0
    p.n_scratch_bytes = lines(2 * p.Q, sizeof(real))
    memory = malloc(n_shares * p.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    p.scratch = on_a_line(memory)
    run(worker, p, n_shares)
    free(memory)
    return 0
