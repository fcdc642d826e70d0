# The register tiles: m rows x n vectors of results stay in registers while the sum runs. All matrix products and
# convolutions end here. m and n are constants wherever a tile is inlined (WITH_CONSTANT_SIZES), so that the
# accumulators are registers. The loop over blocks of rows around each tile is not only reuse of B: without a loop of
# unknown length around them gcc does not unroll the loops that set and store the accumulators, which then live on the
# stack (1.3x to 5x slower).

ctypedef void (*pixel_tile_t)(
    int, int, Py_ssize_t, const real*, Py_ssize_t, const real*, const Py_ssize_t*, const Py_ssize_t*, const real*,
    bint, real*, Py_ssize_t, const Py_ssize_t*, Py_ssize_t, Py_ssize_t,
) noexcept nogil
ctypedef void (*channel_tile_t)(
    int, int, Py_ssize_t, const real*, const Py_ssize_t*, const Py_ssize_t*, const real*, Py_ssize_t, const real*,
    real*, Py_ssize_t, bint, Py_ssize_t,
) noexcept nogil
ctypedef void (*tap_tile_t)(
    int, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, const real*, const Py_ssize_t*, const Py_ssize_t*, const real*,
    Py_ssize_t, const Py_ssize_t*, real*, Py_ssize_t,
) noexcept nogil

cdef extern from *:
    """
    /* To the first cache; the last, what is needed later, to the second. */
    #define FETCH_TO_WRITE(p) __builtin_prefetch((p), 1, 3)
    #define FETCH_TO_READ(p) __builtin_prefetch((p), 0, 3)
    #define FETCH_AHEAD(p) __builtin_prefetch((p), 0, 2)
    """
    void FETCH_TO_WRITE(const void* p) nogil
    void FETCH_TO_READ(const void* p) nogil
    void FETCH_AHEAD(const void* p) nogil

cdef enum:
    # While so long a sum runs, the next block's results are fetched, to be added to or written: float64, n = 2048 at 120
    # GF/s instead of 118. In short sums the instructions cost more than they save (220 instead of 240 at n = 128).
    LONG_SUM = 512

cdef extern from *:
    void pixel_tiles "WITH_CONSTANT_SIZES" (pixel_tile_t tile, int m, int n, ...) nogil
    void channel_tiles "WITH_CONSTANT_SIZES" (channel_tile_t tile, int m, int n, ...) nogil
    void tap_tiles "WITH_CONSTANT_SIZES" (tap_tile_t tile, int m, int n, ...) nogil


cdef struct GemmTile:
    # C (n_blocks·m × n vectors) = A·B + bias, or the sum goes on from C; then relu. A has any strides, and `a_block` is
    # from one block of m rows to the next; B's rows are contiguous. Of the last vector only `n_last` numbers belong to
    # C. What B has beyond them is read, and comes to nothing.
    Py_ssize_t K, n_blocks, n_last
    const real* a
    Py_ssize_t a_row, a_column, a_block
    const real* b
    Py_ssize_t b_row
    const real* bias  # or NULL
    real* c
    Py_ssize_t c_row
    bint accumulate, relu


cdef inline void gemm_tile(int m, int n, GemmTile* t) noexcept nogil:
    cdef vec[24] sums
    cdef vec[3] b_k
    cdef Py_ssize_t k, block, K = t.K, n_last = t.n_last, a_row = t.a_row, a_column = t.a_column, b_row = t.b_row
    cdef Py_ssize_t c_row = t.c_row, a_block = t.a_block
    cdef int i, j
    cdef real s
    cdef const real* a = t.a
    cdef const real* b = t.b
    cdef const real* bias = t.bias
    cdef const real* a_k
    cdef const real* b_k_at
    cdef real* c = t.c
    cdef real* c_next
    cdef bint accumulate = t.accumulate, relu = t.relu
    for block in range(t.n_blocks):
        a_k = a
        b_k_at = b
        if accumulate:
            for i in range(m):
                for j in range(n - 1):
                    sums[i * n + j] = (<uvec*>(c + i * c_row + j * VL))[0]
                sums[i * n + n - 1] = VLOADN(c + i * c_row + (n - 1) * VL, n_last)
        else:
            for i in range(m * n):
                sums[i] = VZERO
        if K >= LONG_SUM:
            # After the last block, the next panel's first. Rows lie across a line more than they have vectors.
            c_next = c + m * c_row if block + 1 < t.n_blocks else t.c + n * VL
            for i in range(m):
                for j in range(n + 1):
                    FETCH_TO_WRITE(c_next + i * c_row + j * VL)
        for k in range(K):
            for j in range(n):
                b_k[j] = (<const uvec*>(b_k_at + j * VL))[0]
            for i in range(m):
                s = a_k[i * a_row]
                for j in range(n):
                    sums[i * n + j] += s * b_k[j]
            a_k += a_column
            b_k_at += b_row
        if bias != NULL:
            for i in range(m):
                for j in range(n - 1):
                    sums[i * n + j] += (<const uvec*>(bias + j * VL))[0]
                sums[i * n + n - 1] += VLOADN(bias + (n - 1) * VL, n_last)
        if relu:
            for i in range(m * n):
                sums[i] = VANDNOT(sums[i], VLESSEQ0(sums[i]))
        if n_last == VL:
            for i in range(m):
                for j in range(n):
                    (<uvec*>(c + i * c_row + j * VL))[0] = sums[i * n + j]
        else:
            for i in range(m):
                for j in range(n - 1):
                    (<uvec*>(c + i * c_row + j * VL))[0] = sums[i * n + j]
                VSTOREN(c + i * c_row + (n - 1) * VL, sums[i * n + n - 1], n_last)
        a += a_block
        c += m * c_row


cdef inline void gemm_tile_of(int m, int n, GemmTile* t) noexcept nogil:
    if m <= ROWS:
        if n == 3:
            gemm_tile(m, 3, t)
        elif n == 2:
            gemm_tile(m, 2, t)
        else:
            gemm_tile(m, 1, t)


# One function for each number of rows, called through a table, so that they are not inlined into one: in a function of
# 48 tiles gcc 12 kept sums and strides of some on the stack (AVX2, n = 128: 65 instead of 120 GF/s).
cdef void gemm_tile_1(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(1, n, t)


cdef void gemm_tile_2(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(2, n, t)


cdef void gemm_tile_3(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(3, n, t)


cdef void gemm_tile_4(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(4, n, t)


cdef void gemm_tile_5(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(5, n, t)


cdef void gemm_tile_6(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(6, n, t)


cdef void gemm_tile_7(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(7, n, t)


cdef void gemm_tile_8(int n, GemmTile* t) noexcept nogil:
    gemm_tile_of(8, n, t)


ctypedef void (*gemm_tile_t)(int n, GemmTile* t) noexcept nogil
cdef gemm_tile_t[9] gemm_tiles
gemm_tiles[1], gemm_tiles[2], gemm_tiles[3], gemm_tiles[4] = gemm_tile_1, gemm_tile_2, gemm_tile_3, gemm_tile_4
gemm_tiles[5], gemm_tiles[6], gemm_tiles[7], gemm_tiles[8] = gemm_tile_5, gemm_tile_6, gemm_tile_7, gemm_tile_8


cdef inline void pixel_tile(
    int m, int n, Py_ssize_t K, const real* w, Py_ssize_t w_row, const real* x, const Py_ssize_t* taps,
    const Py_ssize_t* x_at, const real* bias, bint relu, real* y, Py_ssize_t y_plane, const Py_ssize_t* y_at,
    Py_ssize_t n_lanes, Py_ssize_t n_blocks,
) noexcept nogil:
    """Convolution with pixels in the lanes: n_blocks·m output channels × n vectors of neighbouring output pixels.

    y[o][y_at[j]] = bias[o] + Σₖ w[o][k] · x[taps[k] + x_at[j]], then relu. Of every vector `n_lanes` pixels are stored.
    """
    cdef vec[24] sums
    cdef vec[3] x_k
    cdef const real* x_j[3]
    cdef real* y_j[3]
    cdef Py_ssize_t k, block, tap
    cdef int i, j
    cdef real s
    for j in range(n):
        x_j[j] = x + x_at[j]
        y_j[j] = y + y_at[j]
    for block in range(n_blocks):
        if bias != NULL:
            for i in range(m):
                for j in range(n):
                    sums[i * n + j] = VSET1(bias[i])
            bias += m
        else:
            for i in range(m * n):
                sums[i] = VZERO
        for k in range(K):
            tap = taps[k]
            for j in range(n):
                x_k[j] = (<const uvec*>(x_j[j] + tap))[0]
            for i in range(m):
                s = w[i * w_row + k]
                for j in range(n):
                    sums[i * n + j] += s * x_k[j]
        if relu:
            for i in range(m * n):
                sums[i] = VANDNOT(sums[i], VLESS0(sums[i]))
        if n_lanes == VL:
            for i in range(m):
                for j in range(n):
                    (<uvec*>(y_j[j] + i * y_plane))[0] = sums[i * n + j]
        else:
            for i in range(m):
                for j in range(n):
                    VSTOREN(y_j[j] + i * y_plane, sums[i * n + j], n_lanes)
        w += m * w_row
        for j in range(n):
            y_j[j] += m * y_plane


cdef inline void channel_tile(
    int m, int n, Py_ssize_t K, const real* x, const Py_ssize_t* x_row, const Py_ssize_t* x_column,
    const real* b, Py_ssize_t b_row, const real* bias, real* c, Py_ssize_t c_row, bint accumulate, Py_ssize_t n_blocks,
) noexcept nogil:
    """Convolution with channels in the lanes: n_blocks·m gathered rows × n vectors of channels.

    c[i] = bias + Σₖ x[x_row[i] + x_column[k]] · b[k], or += without bias. Rows of c and b are whole vectors wide.
    """
    cdef vec[24] sums
    cdef vec[3] b_k
    cdef const real* x_i[8]
    cdef const real* b_at
    cdef Py_ssize_t k, block, column
    cdef int i, j
    cdef real s
    for block in range(n_blocks):
        b_at = b
        for i in range(m):
            x_i[i] = x + x_row[i]
        if bias != NULL:
            for i in range(m):
                for j in range(n):
                    sums[i * n + j] = (<const uvec*>(bias + j * VL))[0]
        else:
            for i in range(m * n):
                sums[i] = VZERO
        for k in range(K):
            column = x_column[k]
            for j in range(n):
                b_k[j] = (<const uvec*>(b_at + j * VL))[0]
            for i in range(m):
                s = x_i[i][column]
                for j in range(n):
                    sums[i * n + j] += s * b_k[j]
            b_at += b_row
        if accumulate:
            for i in range(m):
                for j in range(n):
                    sums[i * n + j] += (<uvec*>(c + i * c_row + j * VL))[0]
        for i in range(m):
            for j in range(n):
                (<uvec*>(c + i * c_row + j * VL))[0] = sums[i * n + j]
        x_row += m
        c += m * c_row


cdef inline void tap_tile(
    int m, int n, Py_ssize_t n_whole, Py_ssize_t n_cut, Py_ssize_t n_lanes, const real* x, const Py_ssize_t* taps,
    const Py_ssize_t* x_at, const real* g, Py_ssize_t g_plane, const Py_ssize_t* g_at, real* sums, Py_ssize_t n_blocks,
) noexcept nogil:
    """Weight gradients with pixels in the lanes: n_blocks·m taps × n output channels, each a vector of partial sums.

    sums[i][j] += x[taps[i] + x_at[v]] · g[j][g_at[v]] over `n_whole` vectors v, then `n_cut` of `n_lanes` pixels.
    """
    cdef vec[24] here
    cdef vec[3] g_v
    cdef vec x_v
    cdef const real* x_i[8]
    cdef Py_ssize_t v, block
    cdef int i, j
    for block in range(n_blocks):
        for i in range(m):
            x_i[i] = x + taps[i]
        for i in range(m * n):
            here[i] = VZERO
        for v in range(n_whole):
            for j in range(n):
                g_v[j] = (<const uvec*>(g + j * g_plane + g_at[v]))[0]
            for i in range(m):
                x_v = (<const uvec*>(x_i[i] + x_at[v]))[0]
                for j in range(n):
                    here[i * n + j] += x_v * g_v[j]
        for v in range(n_whole, n_whole + n_cut):
            for j in range(n):
                g_v[j] = VLOADN(g + j * g_plane + g_at[v], n_lanes)
            for i in range(m):
                x_v = VLOADN(x_i[i] + x_at[v], n_lanes)
                for j in range(n):
                    here[i * n + j] += x_v * g_v[j]
        for i in range(m * n):
            (<uvec*>(sums + i * VL))[0] = (<uvec*>(sums + i * VL))[0] + here[i]
        taps += m
        sums += m * n * VL


cdef inline int vectors_in(Py_ssize_t n_columns) noexcept nogil:
    """The width in vectors of the next panel, when so many columns remain."""
    return <int>(3 if n_columns >= PANEL else (n_columns + VL - 1) // VL)


cdef inline void transpose_square(
    const real* source, Py_ssize_t source_row, Py_ssize_t last_row, real* target, Py_ssize_t target_row
) noexcept nogil:
    """VL × VL numbers, in log2(VL) rounds of zips. Rows past `last_row` are read as copies of it."""
    cdef vec[VL] x
    cdef vec[VL] y
    cdef int i
    cdef Py_ssize_t once
    for once in range(1 + (source == NULL)):  # a loop of unknown length, for the reason given at the top
        for i in range(VL):
            x[i] = (<const uvec*>(source + (i if i < last_row else last_row) * source_row))[0]
        for i in range(VL // 2):
            y[2 * i] = ZIP_LOW(x[i], x[i + VL // 2])
            y[2 * i + 1] = ZIP_HIGH(x[i], x[i + VL // 2])
        if VL >= 4:
            for i in range(VL // 2):
                x[2 * i] = ZIP_LOW(y[i], y[i + VL // 2])
                x[2 * i + 1] = ZIP_HIGH(y[i], y[i + VL // 2])
        if VL >= 8:
            for i in range(VL // 2):
                y[2 * i] = ZIP_LOW(x[i], x[i + VL // 2])
                y[2 * i + 1] = ZIP_HIGH(x[i], x[i + VL // 2])
        if VL >= 16:
            for i in range(VL // 2):
                x[2 * i] = ZIP_LOW(y[i], y[i + VL // 2])
                x[2 * i + 1] = ZIP_HIGH(y[i], y[i + VL // 2])
        for i in range(VL):
            (<uvec*>(target + i * target_row))[0] = x[i] if (VL & 20) else y[i]


cdef void transpose_strip(
    const real* source, Py_ssize_t source_row, Py_ssize_t last_row, Py_ssize_t columns, real* target,
    Py_ssize_t target_row,
) noexcept nogil:
    """VL rows of any number of columns, at least VL: what remains at the end overlaps what was done before."""
    cdef Py_ssize_t c = 0
    while c + VL <= columns:
        # The constant spares the whole squares, which are most, the choice of rows.
        if last_row >= VL - 1:
            transpose_square(source + c, source_row, VL, target + c * target_row, target_row)
        else:
            transpose_square(source + c, source_row, last_row, target + c * target_row, target_row)
        c += VL
    if c < columns:
        c = columns - VL
        transpose_square(source + c, source_row, last_row, target + c * target_row, target_row)


cdef void transpose_to_panel(
    const real* source, Py_ssize_t source_row, Py_ssize_t rows, Py_ssize_t columns, real* target, Py_ssize_t target_row
) noexcept nogil:
    """target[c][r] = source[r][c], for whole vectors of r: past the last row come copies of it."""
    cdef Py_ssize_t r = 0, i, c, last_row
    while r < rows:
        last_row = rows - 1 - r
        if columns >= VL:
            transpose_strip(source + r * source_row, source_row, last_row, columns, target + r, target_row)
        else:
            for c in range(columns):
                for i in range(VL):
                    target[c * target_row + r + i] = source[(r + (i if i < last_row else last_row)) * source_row + c]
        r += VL


cdef void transpose_from_panel(
    const real* source, Py_ssize_t source_row, Py_ssize_t rows, Py_ssize_t columns, real* target, Py_ssize_t target_row
) noexcept nogil:
    """target[c][r] = source[r][c] and nothing else. The source's rows are whole vectors wide."""
    cdef vec[VL] square
    cdef Py_ssize_t r, i, c = 0, n_rows, n_columns
    while c < columns:
        n_columns = columns - c if columns - c < VL else VL
        r = 0
        while r < rows:
            n_rows = rows - r if rows - r < VL else VL
            if n_rows == VL and n_columns == VL:
                transpose_square(source + r * source_row + c, source_row, VL, target + c * target_row + r, target_row)
            else:
                transpose_square(source + r * source_row + c, source_row, n_rows - 1, <real*>square, VL)
                for i in range(n_columns):
                    VSTOREN(target + (c + i) * target_row + r, square[i], n_rows)
            r += VL
        c += VL
