# Matrix products by tiles. A is the broadcast operand, at any strides, and hardly ever packed. B is packed a panel of up
# to 3 vectors at a time, unless it is worth reading its rows as they lie.

cdef enum Method:
    DOT      # one number
    DOTS     # both run along k, and one has few rows: dot products
    FEW_ROWS # B's rows as they lie, times a few numbers of A
    OUTER    # few rows of B, times a few numbers of A for each row of C
    TILES

cdef struct Matrix:
    real* at
    Py_ssize_t row, column  # strides

cdef struct RowsOfA:  # of A: as they lie, or packed
    const real* at
    Py_ssize_t row, column, block  # strides; the last from one block of ROWS rows to the next

cdef struct Gemm:
    Py_ssize_t M, N, K
    Matrix a, b
    const real* bias  # a number for each column of C, or NULL
    bint relu
    real* c
    Py_ssize_t c_row
    Method method
    # The order of the loops over tiles, and whether B is packed.
    bint packs, packs_a
    Py_ssize_t m_block, n_block, k_block
    # For a stack of products: how many, its axes, and their strides.
    Py_ssize_t n_stacked
    int n_axes
    Py_ssize_t[64] dims, a_strides, b_strides
    char* scratch
    Py_ssize_t n_scratch_bytes  # of each share


cdef void choose_method(Gemm* g) noexcept nogil:
    # The order in which an element is summed follows from this choice alone, which looks at the whole product and never
    # at a share of it: so the number of threads does not show in the result.
    # Measured on Zen 5 (48 KB first, 1 MB second cache) for n = 16 to 2048 and the layers of nets, in both instruction
    # sets: tiles of 8 rows stand for AVX-512, where loads across cache lines cost little next to the multiplications.
    cdef Py_ssize_t n_bytes = sizeof(real), long_k
    g.packs = g.b.column != 1 or g.b.row < 1
    g.packs_a = False
    g.m_block = g.M
    g.n_block = g.N
    g.k_block = g.K
    if g.M == 1 and g.N == 1:
        g.method = DOT
    elif g.a.column == 1 and g.b.row == 1 and (g.M <= 4 or g.N <= 4 or (g.M <= 2 * ROWS and g.K >= 64)):
        # Transposing B costs more than dot products do: 16 × 576 by 576 × 120 in 12 us instead of 16.
        g.method = DOTS
    elif g.M <= ROWS // 2 and not g.packs:
        g.method = FEW_ROWS
    elif not g.packs and g.bias == NULL and not g.relu and (
        g.K == 1 or (1 < g.K <= 8 and g.M * g.N * n_bytes > 1000000)
    ):
        # The gradient of weights from one sample, or a few. What counts is that C, all the more where it is larger than
        # the second cache, is written row by row: two vectors of 1024 in 40 us instead of 230 by tiles.
        g.method = OUTER
    else:
        g.method = TILES
        if not g.packs and g.M <= (128 if ROWS == 8 else 16):
            # Few rows do not pay for packing: 16 × 784 by 784 × 256 in 27 us instead of 43. Where B's rows are pages
            # apart, a part of K at a time keeps to the pages that the processor has at hand.
            if g.b.row * n_bytes >= 4096:
                g.k_block = 256
        elif g.packs or g.K * g.N > (131072 if ROWS == 8 else 8192):
            g.packs = True
            g.n_block = PANEL
            # The longer the sums, the less often C is read and written: float64, n = 1024 at 126 GF/s whole and 119 in
            # two halves; 2048 at 123 in halves, 118 in quarters and 110 whole.
            long_k = 512 if g.a.column != 1 else 1024 if ROWS == 8 else 4096 // n_bytes
            # A transposed matrix's rows that are pages apart are packed too (AVX2, 1024 × 1024: 114 instead of 83
            # GF/s); other rows never gained by it.
            g.packs_a = g.a.column * n_bytes >= 4096 and g.N >= 4 * PANEL
            if g.packs_a or g.K > long_k:
                g.k_block = long_k
                g.m_block = 384 // n_bytes
                g.n_block = 4032 // n_bytes


cdef enum:
    # A panel's rows are short and far apart, which the processor does not foresee: this many rows ahead are fetched.
    # float64, n = 1000, in 15.4 ms instead of 15.6, together with the next panel's first results (`gemm_tile`).
    ROWS_AHEAD = 32


cdef void pack_panel(Matrix* b, Py_ssize_t first_k, Py_ssize_t K, Py_ssize_t first_n, Py_ssize_t n, int n_vectors,
                     real* panel) noexcept nogil:
    """K rows of n columns, side by side and in whole vectors."""
    cdef const real* at = b.at + first_k * b.row + first_n * b.column
    cdef Py_ssize_t width = n_vectors * VL, k, j
    if b.column == 1:
        for k in range(K):
            if K >= LONG_SUM:
                for j in range(n_vectors + 1):
                    FETCH_TO_READ(at + ROWS_AHEAD * b.row + j * VL)
            j = 0
            while j + VL <= n:
                (<uvec*>(panel + j))[0] = (<const uvec*>(at + j))[0]
                j += VL
            if j < n:
                (<uvec*>(panel + j))[0] = VLOADN(at + j, n - j)
            panel += width
            at += b.row
    elif b.row == 1:
        transpose_to_panel(at, b.column, n, K, panel, width)
    else:
        for k in range(K):
            for j in range(n):
                panel[k * width + j] = at[k * b.row + j * b.column]
            for j in range(n, width):
                panel[k * width + j] = 0


cdef inline int panel_vectors(Py_ssize_t n_columns) noexcept nogil:
    """The width in vectors of the next panel, when so many columns remain.

    Two of 2 rather than one of 3 and one of 1, which loads more than it multiplies: n = 64 in 2.36 us instead of 2.57.
    """
    cdef Py_ssize_t n_vectors = (n_columns + VL - 1) // VL
    return <int>(n_vectors if n_vectors < 3 else 2 if n_vectors == 4 else 3)


cdef void pack_rows(const real* a, Py_ssize_t a_row, Py_ssize_t a_column, Py_ssize_t M, Py_ssize_t K,
                    real* strips) noexcept nogil:
    """A's numbers in the order in which tiles read them: ROWS rows of each column side by side, strip after strip."""
    cdef const real* at
    cdef Py_ssize_t m = 0, n, k, i
    while m < M:
        n = min(M - m, <Py_ssize_t>ROWS)
        at = a + m * a_row
        for k in range(K):
            for i in range(n):
                strips[k * ROWS + i] = at[i * a_row]
            at += a_column
        strips += K * ROWS
        m += n


cdef void multiply_panel(Py_ssize_t M, Py_ssize_t n, int n_vectors, Py_ssize_t K, RowsOfA* a, const real* b,
                         Py_ssize_t b_row, const real* bias, real* c, Py_ssize_t c_row, bint accumulate,
                         bint relu) noexcept nogil:
    """M rows of A times one panel of B."""
    cdef Py_ssize_t rest = M % ROWS, m
    cdef GemmTile tile
    tile.K = K
    tile.n_blocks = M // ROWS
    tile.n_last = n - (n_vectors - 1) * VL
    tile.a = a.at
    tile.a_row = a.row
    tile.a_column = a.column
    tile.a_block = a.block
    tile.b = b
    tile.b_row = b_row
    tile.bias = bias
    tile.c = c
    tile.c_row = c_row
    tile.accumulate = accumulate
    tile.relu = relu
    if 0 < rest < ROWS // 2 and tile.n_blocks and a.block == ROWS * a.row:
        # Two tiles of 5 rows rather than one of 8 and one of 2, which would wait for its sums.
        tile.n_blocks -= 1
        rest += ROWS
    if tile.n_blocks:
        gemm_tiles[ROWS](n_vectors, &tile)
        tile.a += tile.n_blocks * a.block
        tile.c += tile.n_blocks * ROWS * c_row
    tile.n_blocks = 1
    while rest:
        m = rest if rest <= ROWS else (rest + 1) // 2
        gemm_tiles[m](n_vectors, &tile)
        tile.a += m * a.row
        tile.c += m * c_row
        rest -= m


cdef void multiply_by_rows(Py_ssize_t M, Py_ssize_t n, int n_vectors, Py_ssize_t K, RowsOfA* a, const real* b,
                           Py_ssize_t b_row, const real* bias, real* c, Py_ssize_t c_row, bint accumulate,
                           bint relu) noexcept nogil:
    """M rows of A times a panel of B that is not packed."""
    cdef vec[3 * VL] last
    cdef Py_ssize_t width = n_vectors * VL, n_last = 0
    cdef Matrix from_b
    cdef RowsOfA rest
    if n < width:
        # Whole vectors of the last rows would end beyond the last row's end, and so perhaps beyond B's memory: these
        # rows, mostly one, are packed.
        n_last = min((width - n + b_row - 1) // b_row, K)
    if n_last < K or K == 0:
        multiply_panel(M, n, n_vectors, K - n_last, a, b, b_row, bias if n_last == 0 else NULL, c, c_row, accumulate,
                       relu and n_last == 0)
        accumulate = True
    if n_last:
        from_b.at = <real*>b
        from_b.row = b_row
        from_b.column = 1
        pack_panel(&from_b, K - n_last, n_last, 0, n, n_vectors, <real*>last)
        rest = a[0]
        rest.at += (K - n_last) * a.column
        multiply_panel(M, n, n_vectors, n_last, &rest, <real*>last, width, bias, c, c_row, accumulate, relu)


cdef void multiply_tiles(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, Matrix* b, const real* bias, real* c,
                         real* packed) noexcept nogil:
    cdef Py_ssize_t first_k = 0, K, first_n, n_here, first_m, m_here, j, n
    cdef int n_vectors
    cdef bint is_last
    cdef const real* bias_here
    cdef real* c_here
    cdef real* strips
    cdef RowsOfA rows
    while True:
        K = g.K - first_k
        if K > g.k_block:
            K = g.k_block if K >= 2 * g.k_block else (K + 1) // 2
        is_last = first_k + K == g.K
        first_n = 0
        while first_n < N:
            n_here = min(N - first_n, g.n_block)
            if g.packs:
                j = 0
                while j < n_here:
                    n_vectors = panel_vectors(n_here - j)
                    n = min(n_here - j, n_vectors * VL)
                    pack_panel(b, first_k, K, first_n + j, n, n_vectors, packed + j * K)
                    j += n
            strips = packed + (n_here + VL) * K
            first_m = 0
            while first_m < M:
                m_here = min(M - first_m, g.m_block)
                rows.at = a + first_m * g.a.row + first_k * g.a.column
                rows.row = g.a.row
                rows.column = g.a.column
                rows.block = ROWS * g.a.row
                if g.packs_a:
                    pack_rows(rows.at, g.a.row, g.a.column, m_here, K, strips)
                    rows.at = strips
                    rows.row = 1
                    rows.column = ROWS
                    rows.block = ROWS * K
                j = 0
                while j < n_here:
                    n_vectors = panel_vectors(n_here - j)
                    n = min(n_here - j, n_vectors * VL)
                    bias_here = after(bias, first_n + j) if is_last else NULL
                    c_here = c + first_m * g.c_row + first_n + j
                    if g.packs:
                        multiply_panel(m_here, n, n_vectors, K, &rows, packed + j * K, n_vectors * VL, bias_here, c_here,
                                       g.c_row, first_k > 0, g.relu and is_last)
                    else:
                        multiply_by_rows(m_here, n, n_vectors, K, &rows, b.at + first_k * b.row + first_n + j, b.row,
                                         bias_here, c_here, g.c_row, first_k > 0, g.relu and is_last)
                    j += n
                first_m += m_here
            first_n += n_here
        first_k += K
        if first_k >= g.K:
            break


cdef void multiply(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, const real* bias, real* c,
                   real* packed) noexcept nogil:
    """One product, or M rows and N columns of it."""
    cdef Matrix from_b
    if g.method == DOT:
        c[0] = dot(g.K, a, g.a.column, b, g.b.row)
        if bias != NULL:
            c[0] += bias[0]
        if g.relu and c[0] <= 0:
            c[0] = 0
    elif g.method == DOTS:
        multiply_dots(g, M, N, a, b, bias, c)
    elif g.method == FEW_ROWS:
        multiply_rows(g, M, N, a, b, bias, c)
    elif g.method == OUTER:
        multiply_outer(g, M, N, a, b, c)
    else:
        from_b = g.b
        from_b.at = <real*>b
        multiply_tiles(g, M, N, a, &from_b, bias, c, packed)


cdef void gemm_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Gemm* g = <Gemm*>job
    cdef real* packed = <real*>(g.scratch + share * g.n_scratch_bytes)
    cdef Py_ssize_t i, first, last, rest, a_at, b_at
    cdef int axis
    if g.n_stacked > 1:
        for i in range(start_of(share, n_shares, g.n_stacked), start_of(share + 1, n_shares, g.n_stacked)):
            rest = i
            a_at = 0
            b_at = 0
            for axis in range(g.n_axes - 1, -1, -1):
                a_at += rest % g.dims[axis] * g.a_strides[axis]
                b_at += rest % g.dims[axis] * g.b_strides[axis]
                rest //= g.dims[axis]
            multiply(g, g.M, g.N, g.a.at + a_at, g.b.at + b_at, g.bias, g.c + i * g.M * g.N, packed)
    elif g.M >= g.N:
        first = start_of(share, n_shares, (g.M + ROWS - 1) // ROWS) * ROWS
        last = min(start_of(share + 1, n_shares, (g.M + ROWS - 1) // ROWS) * ROWS, g.M)
        multiply(g, last - first, g.N, g.a.at + first * g.a.row, g.b.at, g.bias, g.c + first * g.c_row, packed)
    else:
        first = start_of(share, n_shares, (g.N + PANEL - 1) // PANEL) * PANEL
        last = min(start_of(share + 1, n_shares, (g.N + PANEL - 1) // PANEL) * PANEL, g.N)
        multiply(g, g.M, last - first, g.a.at, g.b.at + first * g.b.column, after(g.bias, first), g.c + first, packed)


cdef int gemm(Gemm* g) noexcept nogil:
    """Runs the product; -1 where there is no memory for it. c is (M, N), or a stack of (M, N), with c_row = N."""
    cdef Matrix swap
    cdef Py_ssize_t n_units, n_shares, n_packed
    cdef void* memory = NULL
    if g.M == 0 or g.N == 0 or g.n_stacked == 0:
        return 0
    if g.N == 1 and g.M > 1 and g.n_stacked == 1 and g.bias == NULL:
        # A matrix times a column is a row times the transpose, whichever way the matrix lies.
        swap.at = g.a.at
        swap.row = g.a.column
        swap.column = g.a.row
        g.a.at = g.b.at
        g.a.column = g.b.row
        g.a.row = 0
        g.b = swap
        g.N = g.M
        g.M = 1
        g.c_row = g.N
    choose_method(g)
    n_units = (g.M + ROWS - 1) // ROWS if g.M >= g.N else (g.N + PANEL - 1) // PANEL
    if g.n_stacked > 1:
        n_units = g.n_stacked
    n_shares = shares_of(2.0 * g.M * g.N * g.K * g.n_stacked, n_units)
    g.n_scratch_bytes = 0
    g.scratch = NULL
    if g.method == TILES and g.packs:
        n_packed = min(g.N, g.n_block) + PANEL
        if g.packs_a:
            n_packed += min(g.M, g.m_block) + ROWS
        g.n_scratch_bytes = lines(min(g.k_block, g.K) * n_packed, sizeof(real))
        memory = malloc(n_shares * g.n_scratch_bytes + 64)
        if memory == NULL:
            return -1
        g.scratch = on_a_line(memory)
    run(gemm_worker, g, n_shares)
    free(memory)
    return 0
