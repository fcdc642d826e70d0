# Sums, means and extremes over axes. Sums are taken in pairs, of blocks that depend on the shape alone: float32 keeps
# its digits, and the number of threads is not seen in the result.
cdef extern from *:
    """
    #define FIRST_LANES(n) ((ivec){LANES} < (ireal)(n))

    /* The lanes moved round by n: half of them, a quarter, ... */
    #define TO(i, n) (((i) + (n)) % VLEN)
    #if VLEN == 16
    #define MOVED(x, n) SHUFFLE(x, x, TO(0, n), TO(1, n), TO(2, n), TO(3, n), TO(4, n), TO(5, n), TO(6, n), TO(7, n), \\
        TO(8, n), TO(9, n), TO(10, n), TO(11, n), TO(12, n), TO(13, n), TO(14, n), TO(15, n))
    #elif VLEN == 8
    #define MOVED(x, n) SHUFFLE(x, x, TO(0, n), TO(1, n), TO(2, n), TO(3, n), TO(4, n), TO(5, n), TO(6, n), TO(7, n))
    #elif VLEN == 4
    #define MOVED(x, n) SHUFFLE(x, x, TO(0, n), TO(1, n), TO(2, n), TO(3, n))
    #else
    #define MOVED(x, n) SHUFFLE(x, x, TO(0, n), TO(1, n))
    #endif
    #define FIRST_OF(x) ((x)[0])

    #if VBYTES == 64 && REALSZ == 4
    #define HAS_NAN(x) (_mm512_cmp_ps_mask((__m512)(x), (__m512)(x), _CMP_UNORD_Q) != 0)
    #elif VBYTES == 64
    #define HAS_NAN(x) (_mm512_cmp_pd_mask((__m512d)(x), (__m512d)(x), _CMP_UNORD_Q) != 0)
    #else
    static inline int HAS_NAN(vec x) { int has = 0; for (int i = 0; i < VLEN; i++) has |= x[i] != x[i]; return has; }
    #endif
    """
    ivec FIRST_LANES(Py_ssize_t) nogil
    vec MOVED(vec, int) nogil
    real FIRST_OF(vec) nogil
    bint HAS_NAN(vec) nogil

cdef enum:
    SUM, LARGEST, SMALLEST

cdef enum:
    N_PARTS = 8  # side by side, so that one addition need not wait for the one before
    N_EXTREMES = 4
    VECTORS_PER_BLOCK = 128
    MAX_PAIRINGS = 64
    ROWS_PER_BLOCK = 64
    NUMBERS_PER_BLOCK = 1 << 16
    MAX_GROUPS = 5


cdef inline vec fold(int op, vec a, vec b) noexcept nogil:
    if op == SUM:
        return a + b
    if op == LARGEST:
        return VSELECT(VWINS(b, a), b, a)
    return VSELECT(VLESS(b, a) | ~VEQUAL(b, b), b, a)


cdef inline vec sum_block(const real* x, Py_ssize_t n_vectors) noexcept nogil:
    """At least one vector: every eighth in a sum of its own."""
    cdef vec[N_PARTS] s
    cdef vec y
    cdef Py_ssize_t n_whole = n_vectors - n_vectors % N_PARTS, i
    cdef int j
    if n_whole == 0:
        y = at(x)
        n_whole = 1
    else:
        for j in range(N_PARTS):
            s[j] = at(x + j * VL)
        i = N_PARTS
        while i < n_whole:
            for j in range(N_PARTS):
                s[j] = s[j] + at(x + (i + j) * VL)
            i += N_PARTS
        y = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
    for i in range(n_whole, n_vectors):
        y = y + at(x + i * VL)
    return y


cdef vec sum_vectors(const real* x, Py_ssize_t n_vectors) noexcept nogil:
    """At least one vector: block by block, the blocks in pairs, the pairs in pairs, and so on.

    The sums that wait for one as long as theirs are the bits of the number of blocks so far. Halving the whole again and
    again instead took 3.0 us for 100,000 numbers in the second cache, and 36 for 1,000,000 in the third: now 2.2 and 32.
    """
    cdef vec[MAX_PAIRINGS] waiting
    cdef vec y
    cdef Py_ssize_t n_blocks = n_vectors // VECTORS_PER_BLOCK, block, paired, level
    if n_vectors <= VECTORS_PER_BLOCK:
        return sum_block(x, n_vectors)
    for block in range(n_blocks):
        y = sum_block(x + block * VECTORS_PER_BLOCK * VL, VECTORS_PER_BLOCK)
        level = 0
        paired = block
        while paired & 1:
            y = waiting[level] + y
            level += 1
            paired >>= 1
        waiting[level] = y
    level = 0
    while not n_blocks & 1:
        level += 1
        n_blocks >>= 1
    y = waiting[level]
    while n_blocks > 1:
        level += 1
        n_blocks >>= 1
        if n_blocks & 1:
            y = waiting[level] + y
    block = n_vectors // VECTORS_PER_BLOCK * VECTORS_PER_BLOCK
    if block < n_vectors:
        y = y + sum_block(x + block * VL, n_vectors - block)
    return y


cdef inline real sum_row(const real* x, Py_ssize_t n) noexcept nogil:
    """n numbers next to each other, at least one."""
    cdef Py_ssize_t n_vectors = n // VL, rest = n % VL
    cdef vec y
    if n_vectors == 0:
        return across(SUM, VLOADN(x, n))
    y = sum_vectors(x, n_vectors)
    if rest > 0:
        y = y + VLOADN(x + n - rest, rest)
    return across(SUM, y) + 0  # of nothing but −0 it is 0, as where a short row is filled up with zeros


cdef inline vec extreme(int op, vec a, vec b) noexcept nogil:
    return VMAX(a, b) if op == LARGEST else VMIN(a, b)


cdef inline real extreme_row(int op, const real* x, Py_ssize_t n) noexcept nogil:
    """n numbers next to each other, at least one.

    The sum beside the extreme is NaN if there is one, or two infinities: then a second look tells. Two operations a
    vector, where a comparison that NaN wins takes four.
    """
    cdef vec[N_EXTREMES] y, s
    cdef vec x_i, neutral = VSET1(<real>(-INFINITY if op == LARGEST else INFINITY))
    cdef Py_ssize_t i = 0
    cdef int j
    for j in range(N_EXTREMES):
        y[j] = neutral
        s[j] = VZERO
    while i + N_EXTREMES * VL <= n:
        for j in range(N_EXTREMES):
            x_i = at(x + i + j * VL)
            y[j] = extreme(op, y[j], x_i)
            s[j] = s[j] + x_i
        i += N_EXTREMES * VL
    while i < n:
        x_i = VLOADN(x + i, min(n - i, VL))
        s[0] = s[0] + x_i
        if n - i < VL:
            x_i = VSELECT(FIRST_LANES(n - i), x_i, neutral)
        y[0] = extreme(op, y[0], x_i)
        i += VL
    if HAS_NAN((s[0] + s[1]) + (s[2] + s[3])):
        for i in range(n):
            if x[i] != x[i]:
                return x[i]
    return across(op, extreme(op, extreme(op, y[0], y[1]), extreme(op, y[2], y[3])))


cdef inline vec fold_lanes(int op, vec a, vec b) noexcept nogil:
    return a + b if op == SUM else extreme(op, a, b)


cdef inline real across(int op, vec x) noexcept nogil:
    """A vector's lanes, none of which is NaN for an extreme: neighbours first, by moves between registers."""
    x = fold_lanes(op, x, MOVED(x, 1))
    if VL > 2:
        x = fold_lanes(op, x, MOVED(x, 2))
    if VL > 4:
        x = fold_lanes(op, x, MOVED(x, 4))
    if VL > 8:
        x = fold_lanes(op, x, MOVED(x, 8))
    return FIRST_OF(x)


cdef inline vec load(const real* x, Py_ssize_t n) noexcept nogil:
    return at(x) if n == VL else VLOADN(x, n)


cdef inline vec rows_at(int op, const real* x, Py_ssize_t step, int n_rows, Py_ssize_t n_lanes) noexcept nogil:
    """The same columns of one row or of eight."""
    cdef vec[8] s
    cdef int j
    for j in range(n_rows):
        s[j] = load(x + j * step, n_lanes)
    if n_rows == 1:
        return s[0]
    return fold(op, fold(op, fold(op, s[0], s[1]), fold(op, s[2], s[3])),
                fold(op, fold(op, s[4], s[5]), fold(op, s[6], s[7])))


cdef inline void fold_into(int op, const real* x, real* y, Py_ssize_t n, int n_rows, bint is_first) noexcept nogil:
    """Folds rows of n numbers into y."""
    cdef Py_ssize_t i = 0
    cdef vec s
    while i + VL <= n:
        s = rows_at(op, x + i, n, n_rows, VL)
        (<uvec*>(y + i))[0] = s if is_first else fold(op, at(y + i), s)
        i += VL
    if i < n:
        s = rows_at(op, x + i, n, n_rows, n - i)
        VSTOREN(y + i, s if is_first else fold(op, VLOADN(y + i, n - i), s), n - i)


cdef inline void fold_rows(int op, const real* x, real* y, Py_ssize_t n_rows, Py_ssize_t n) noexcept nogil:
    """At least one row of n numbers: eight at a time, so that y is seldom read."""
    cdef Py_ssize_t row = 8
    if n_rows >= 8:
        fold_into(op, x, y, n, 8, True)
    else:
        fold_into(op, x, y, n, 1, True)
        row = 1
    while row + 8 <= n_rows:
        fold_into(op, x + row * n, y, n, 8, False)
        row += 8
    while row < n_rows:
        fold_into(op, x + row * n, y, n, 1, False)
        row += 1


cdef inline void fold_unit(int op, const real* x, real* y, Py_ssize_t n, Py_ssize_t n_inner) noexcept nogil:
    if n_inner == 1:
        y[0] = sum_row(x, n) if op == SUM else extreme_row(op, x, n)
    else:
        fold_rows(op, x, y, n, n_inner)


# x is n_outer times n times n_inner numbers, of which the n are folded: into n_blocks numbers, as yet.
cdef struct Stage:
    int op
    const real* x
    real* y
    Py_ssize_t n_outer, n, n_inner, n_blocks, block


cdef void stage_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Stage* s = <Stage*>job
    cdef Py_ssize_t n_units = s.n_outer * s.n_blocks, unit = start_of(share, n_shares, n_units)
    cdef Py_ssize_t outer = unit // s.n_blocks, block = unit % s.n_blocks, n
    cdef const real* x
    for unit in range(unit, start_of(share + 1, n_shares, n_units)):
        n = min(s.block, s.n - block * s.block)
        x = s.x + (outer * s.n + block * s.block) * s.n_inner
        block += 1
        if block == s.n_blocks:  # counted, because two divisions a unit cost more than summing a row of 10
            block = 0
            outer += 1
        if s.op == SUM:
            fold_unit(SUM, x, s.y + unit * s.n_inner, n, s.n_inner)
        elif s.op == LARGEST:
            fold_unit(LARGEST, x, s.y + unit * s.n_inner, n, s.n_inner)
        else:
            fold_unit(SMALLEST, x, s.y + unit * s.n_inner, n, s.n_inner)
