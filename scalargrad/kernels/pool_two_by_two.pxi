# Windows of 2 x 2 side by side, the usual ones: two rows of the image are read at full width, and a row of results comes
# from taking their even and their odd numbers apart. Images and results may lie in planes of any pitch, so that the
# fused blocks pool what has never been in memory.
#
# LeNet's (64, 6, 30, 30), float32, AVX-512, one thread: 90 us where the loops over taps took 1,000.

cdef struct Halving:
    Py_ssize_t n_planes, P, Q
    Py_ssize_t H, W               # at least 2P and 2Q; of the image, the one row and column more that no window holds
    Py_ssize_t row, plane         # pitches of the image
    Py_ssize_t small_plane        # pitch of the results; their rows lie one after the other
    Py_ssize_t bytes_behind       # of the offsets: so many after the last row will be written later, or never read


cdef inline bint is_two_by_two(Py_ssize_t* kernel, Py_ssize_t* stride, Py_ssize_t* padding,
                               Py_ssize_t* dilation) noexcept nogil:
    return (
        kernel[0] == 2 and kernel[1] == 2 and stride[0] == 2 and stride[1] == 2
        and padding[0] == 0 and padding[1] == 0 and dilation[0] == 1 and dilation[1] == 1
    )


cdef inline void largest_entry(bint with_relu, vec a, vec b, vec c, vec d, vec* y, ivec* offset) noexcept nogil:
    """Largest of each window, from its entries in row order."""
    cdef vec upper, lower, best
    cdef ivec upper_number, lower_number, number, wins = VWINS(b, a)
    upper = VSELECT(wins, b, a)
    upper_number = wins & ISET1(1)
    wins = VWINS(d, c)
    lower = VSELECT(wins, d, c)
    lower_number = ISET1(2) | (wins & ISET1(1))
    wins = VWINS(lower, upper)
    best = VSELECT(wins, lower, upper)
    number = ISELECT(wins, lower_number, upper_number)
    if with_relu:
        wins = VLESSEQ0(best)
        best = VANDNOT(best, wins)
        number = ISELECT(wins, ISET1(4), number)
    y[0] = best
    offset[0] = number


cdef inline void largest_of_four(bint with_relu, vec a, vec b, vec c, vec d, vec* y, ivec* offset) noexcept nogil:
    """The same from two vectors of the windows' upper row and two of their lower."""
    largest_entry(with_relu, EVENS(a, b), ODDS(a, b), EVENS(c, d), ODDS(c, d), y, offset)


cdef inline void max_pool_halving(bint with_relu, Halving* s, const real* x, real* y, u8* offsets) noexcept nogil:
    cdef Py_ssize_t plane, i, j, rest = s.Q % VL, low = min(2 * rest, VL), high = 2 * rest - low
    cdef const real* upper
    cdef const real* lower
    cdef real* y_row
    cdef u8* row
    cdef u8* end = offsets + (s.n_planes - 1) * s.small_plane + s.P * s.Q + s.bytes_behind
    cdef vec best
    cdef ivec number
    for plane in range(s.n_planes):
        y_row = y + plane * s.small_plane
        row = offsets + plane * s.small_plane
        for i in range(s.P):
            upper = x + plane * s.plane + 2 * i * s.row
            lower = upper + s.row
            for j in range(s.Q // VL):
                largest_of_four(with_relu, (<const uvec*>upper)[0], (<const uvec*>(upper + VL))[0],
                                (<const uvec*>lower)[0], (<const uvec*>(lower + VL))[0], &best, &number)
                (<uvec*>y_row)[0] = best
                (<u8vec*>row)[0] = TO_BYTES(number)
                y_row += VL
                row += VL
                upper += 2 * VL
                lower += 2 * VL
            if rest:
                largest_of_four(with_relu, VLOADN(upper, low), VLOADN(upper + VL, high), VLOADN(lower, low),
                                VLOADN(lower + VL, high), &best, &number)
                VSTOREN(y_row, best, rest)
                # A whole vector of offsets is stored where later rows write over what is too much.
                if s.small_plane == s.P * s.Q and row + VL <= end:
                    (<u8vec*>row)[0] = TO_BYTES(number)
                else:
                    STORE_BYTES(row, TO_BYTES(number), rest)
                y_row += rest
                row += rest


cdef void max_pool_two_by_two(Halving* s, const real* x, real* y, u8* offsets) noexcept nogil:
    max_pool_halving(False, s, x, y, offsets)


cdef void relu_max_pool_two_by_two(Halving* s, const real* x, real* y, u8* offsets) noexcept nogil:
    max_pool_halving(True, s, x, y, offsets)


cdef inline void store_apart(real* upper, real* lower, vec a, vec b, vec c, vec d, Py_ssize_t n) noexcept nogil:
    """Windows' entries in row order to where they stand in the image; n of the windows are there."""
    cdef Py_ssize_t low
    if n == VL:
        (<uvec*>upper)[0] = ZIP_LOW(a, b)
        (<uvec*>(upper + VL))[0] = ZIP_HIGH(a, b)
        (<uvec*>lower)[0] = ZIP_LOW(c, d)
        (<uvec*>(lower + VL))[0] = ZIP_HIGH(c, d)
    else:
        low = min(2 * n, VL)
        VSTOREN(upper, ZIP_LOW(a, b), low)
        VSTOREN(lower, ZIP_LOW(c, d), low)
        if 2 * n > VL:
            VSTOREN(upper + VL, ZIP_HIGH(a, b), 2 * n - low)
            VSTOREN(lower + VL, ZIP_HIGH(c, d), 2 * n - low)


cdef inline void clear_the_rest(Halving* s, real* x_plane) noexcept nogil:
    """Zero in the row and the column that no window holds."""
    cdef Py_ssize_t i
    if s.W > 2 * s.Q:
        for i in range(2 * s.P):
            x_plane[i * s.row + 2 * s.Q] = 0
    if s.H > 2 * s.P:
        memset(x_plane + 2 * s.P * s.row, 0, s.W * sizeof(real))


cdef inline void put_back(const real* g, ivec number, Py_ssize_t n, real* upper, real* lower) noexcept nogil:
    cdef vec g_here
    if n == VL:
        g_here = (<const uvec*>g)[0]
    else:
        g_here = VLOADN(g, n)
    store_apart(upper, lower, VAND(g_here, IEQUAL(number, 0)), VAND(g_here, IEQUAL(number, 1)),
                VAND(g_here, IEQUAL(number, 2)), VAND(g_here, IEQUAL(number, 3)), n)


cdef void max_pool_grad_two_by_two(Halving* s, const real* g, const u8* offsets, real* x_grad) noexcept nogil:
    """Both gradients and offsets in planes of `small_plane`; an offset of more than 3 sends nothing back."""
    cdef Py_ssize_t plane, i, j, rest = s.Q % VL
    cdef const real* g_row
    cdef const u8* row
    cdef const u8* end = offsets + (s.n_planes - 1) * s.small_plane + s.P * s.Q + s.bytes_behind
    cdef real* upper
    cdef real* lower
    for plane in range(s.n_planes):
        g_row = g + plane * s.small_plane
        row = offsets + plane * s.small_plane
        for i in range(s.P):
            upper = x_grad + plane * s.plane + 2 * i * s.row
            lower = upper + s.row
            for j in range(s.Q // VL):
                put_back(g_row, FROM_BYTES((<const u8vec*>row)[0]), VL, upper, lower)
                g_row += VL
                row += VL
                upper += 2 * VL
                lower += 2 * VL
            if rest:
                if row + VL <= end:
                    put_back(g_row, FROM_BYTES((<const u8vec*>row)[0]), rest, upper, lower)
                else:
                    put_back(g_row, FROM_BYTES(LOAD_BYTES(row, rest)), rest, upper, lower)
                g_row += rest
                row += rest
        clear_the_rest(s, x_grad + plane * s.plane)


cdef void avg_pool_two_by_two(Halving* s, double divisor, const real* x, real* y) noexcept nogil:
    cdef Py_ssize_t plane, i, j, rest = s.Q % VL, low = min(2 * rest, VL), high = 2 * rest - low
    cdef const real* upper
    cdef const real* lower
    cdef real* y_row
    cdef vec a, b, c, d, divisors = VSET1(<real>divisor)
    for plane in range(s.n_planes):
        y_row = y + plane * s.small_plane
        for i in range(s.P):
            upper = x + plane * s.plane + 2 * i * s.row
            lower = upper + s.row
            for j in range(s.Q // VL):
                a = (<const uvec*>upper)[0]
                b = (<const uvec*>(upper + VL))[0]
                c = (<const uvec*>lower)[0]
                d = (<const uvec*>(lower + VL))[0]
                (<uvec*>y_row)[0] = ((EVENS(a, b) + ODDS(a, b)) + (EVENS(c, d) + ODDS(c, d))) / divisors
                y_row += VL
                upper += 2 * VL
                lower += 2 * VL
            if rest:
                a = VLOADN(upper, low)
                b = VLOADN(upper + VL, high)
                c = VLOADN(lower, low)
                d = VLOADN(lower + VL, high)
                VSTOREN(y_row, ((EVENS(a, b) + ODDS(a, b)) + (EVENS(c, d) + ODDS(c, d))) / divisors, rest)
                y_row += rest


cdef void avg_pool_grad_two_by_two(Halving* s, double divisor, const real* g, real* x_grad) noexcept nogil:
    cdef Py_ssize_t plane, i, j, rest = s.Q % VL
    cdef const real* g_row
    cdef real* upper
    cdef real* lower
    cdef vec part, divisors = VSET1(<real>divisor)
    for plane in range(s.n_planes):
        g_row = g + plane * s.small_plane
        for i in range(s.P):
            upper = x_grad + plane * s.plane + 2 * i * s.row
            lower = upper + s.row
            for j in range(s.Q // VL):
                part = (<const uvec*>g_row)[0] / divisors
                store_apart(upper, lower, part, part, part, part, VL)
                g_row += VL
                upper += 2 * VL
                lower += 2 * VL
            if rest:
                part = VLOADN(g_row, rest) / divisors
                store_apart(upper, lower, part, part, part, part, rest)
                g_row += rest
        clear_the_rest(s, x_grad + plane * s.plane)
