# Products where one operand has few rows: nothing is used twice, so they run at the speed of memory, and the order in
# which memory is read is all that counts. Vectors, and batches of a few samples.

cdef enum:
    # Numbers of each sum that are added before the next sum's, so that the rows of B stay in the first cache.
    DOTS_BLOCK = 2048
    # Numbers of each row of C that stay in the first cache while all of B's rows pass by.
    ROWS_BLOCK = 2048
    N_TILE_SUMS = 2 * ROWS  # vectors that a tile below keeps in registers


cdef inline vec sums_of_lanes(vec* x) noexcept nogil:
    """The VL sums of VL vectors."""
    cdef int i
    if VL >= 16:
        for i in range(VL // 2):
            x[i] = ZIP_LOW(x[i], x[i + VL // 2]) + ZIP_HIGH(x[i], x[i + VL // 2])
        for i in range(VL // 4):
            x[i] = ZIP_LOW(x[i], x[i + VL // 4]) + ZIP_HIGH(x[i], x[i + VL // 4])
        for i in range(VL // 8):
            x[i] = ZIP_LOW(x[i], x[i + VL // 8]) + ZIP_HIGH(x[i], x[i + VL // 8])
    elif VL >= 8:
        for i in range(VL // 2):
            x[i] = ZIP_LOW(x[i], x[i + VL // 2]) + ZIP_HIGH(x[i], x[i + VL // 2])
        for i in range(VL // 4):
            x[i] = ZIP_LOW(x[i], x[i + VL // 4]) + ZIP_HIGH(x[i], x[i + VL // 4])
    elif VL >= 4:
        for i in range(VL // 2):
            x[i] = ZIP_LOW(x[i], x[i + VL // 2]) + ZIP_HIGH(x[i], x[i + VL // 2])
    return ZIP_LOW(x[0], x[1]) + ZIP_HIGH(x[0], x[1])


cdef inline void dots_tile(
    int m, int n_parts, Py_ssize_t K, const real* a, Py_ssize_t a_row, const real* b, Py_ssize_t b_column, Py_ssize_t N,
    const real* bias, real* c, Py_ssize_t c_row, bint accumulate, bint relu,
) noexcept nogil:
    """m rows of A times all columns of B, both contiguous along k, as dot products. Few enough columns at a time for
    their sums to stay in registers; each sum in `n_parts` parts where there are too few sums to keep the
    multipliers busy. Columns past the last are read as copies of it.
    """
    cdef vec[N_TILE_SUMS] sums
    cdef real[N_TILE_SUMS] totals
    cdef vec[4] a_k
    cdef const real* b_j[N_TILE_SUMS]
    cdef vec b_k
    cdef real total
    cdef int n = N_TILE_SUMS // (m * n_parts), i, j, part
    cdef Py_ssize_t first = 0, k, n_here
    while first < N:
        n_here = N - first if N - first < n else n
        for j in range(n):
            b_j[j] = b + (j if j < n_here else n_here - 1) * b_column
        for i in range(N_TILE_SUMS):
            sums[i] = VZERO
        k = 0
        while k + n_parts * VL <= K:
            for part in range(n_parts):
                for i in range(m):
                    a_k[i] = (<const uvec*>(a + i * a_row + k + part * VL))[0]
                for j in range(n):
                    b_k = (<const uvec*>(b_j[j] + k + part * VL))[0]
                    for i in range(m):
                        sums[(part * m + i) * n + j] += a_k[i] * b_k
            k += n_parts * VL
        while k < K:
            for i in range(m):
                a_k[i] = VLOADN(a + i * a_row + k, K - k if K - k < VL else VL)
            for j in range(n):
                b_k = VLOADN(b_j[j] + k, K - k if K - k < VL else VL)
                for i in range(m):
                    sums[i * n + j] += a_k[i] * b_k
            k += VL
        for i in range(N_TILE_SUMS // VL):
            (<uvec*>(totals + i * VL))[0] = sums_of_lanes(sums + i * VL)
        for i in range(m):
            for j in range(n_here):
                total = totals[i * n + j]
                for part in range(1, n_parts):
                    total += totals[(part * m + i) * n + j]
                if bias != NULL:
                    total += bias[j]
                if accumulate:
                    total += c[i * c_row + j]
                c[i * c_row + j] = 0 if relu and total <= 0 else total
        if bias != NULL:
            bias += n
        b += n * b_column
        c += n
        first += n


cdef void multiply_dots(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, const real* bias,
                        real* c) noexcept nogil:
    cdef Py_ssize_t k = 0, K, first, i, n
    cdef bint accumulate = False, relu
    while True:
        K = min(g.K - k, <Py_ssize_t>DOTS_BLOCK)
        relu = g.relu and k + K == g.K
        # All rows of A for a few columns of B at a time.
        first = 0
        while first < N:
            n = min(N - first, <Py_ssize_t>N_TILE_SUMS)
            i = 0
            while ROWS == 8 and i + 4 <= M:
                dots_tile(4, 1, K, a + i * g.a.row + k, g.a.row, b + first * g.b.column + k, g.b.column, n,
                          after(bias, first), c + i * g.c_row + first, g.c_row, accumulate, relu)
                i += 4
            while i + 2 <= M:
                dots_tile(2, 1, K, a + i * g.a.row + k, g.a.row, b + first * g.b.column + k, g.b.column, n,
                          after(bias, first), c + i * g.c_row + first, g.c_row, accumulate, relu)
                i += 2
            if i < M:
                dots_tile(1, N_TILE_SUMS // 4, K, a + i * g.a.row + k, g.a.row, b + first * g.b.column + k, g.b.column, n,
                          after(bias, first), c + i * g.c_row + first, g.c_row, accumulate, relu)
            first += n
        bias = NULL
        accumulate = True
        k += K
        if k == g.K:
            break


cdef inline void rows_tile(
    int m, int n_k, const real* a, Py_ssize_t a_row, Py_ssize_t a_column, const real* b, Py_ssize_t b_row, Py_ssize_t n,
    real* c, Py_ssize_t c_row, bint accumulate,
) noexcept nogil:
    """C (m × n) = A (m × n_k) · B, or C + A · B. A's numbers stay in registers, C's rows in the first cache; B is read
    once."""
    cdef vec[N_TILE_SUMS] a_ik
    cdef vec[4] y
    cdef vec b_k
    cdef int i, k
    cdef Py_ssize_t j = 0
    for i in range(m):
        for k in range(n_k):
            a_ik[i * n_k + k] = VSET1(a[i * a_row + k * a_column])
    while j + VL <= n:
        for i in range(m):
            y[i] = (<uvec*>(c + i * c_row + j))[0] if accumulate else VZERO
        for k in range(n_k):
            b_k = (<const uvec*>(b + k * b_row + j))[0]
            for i in range(m):
                y[i] += a_ik[i * n_k + k] * b_k
        for i in range(m):
            (<uvec*>(c + i * c_row + j))[0] = y[i]
        j += VL
    if j < n:
        for i in range(m):
            y[i] = VLOADN(c + i * c_row + j, n - j) if accumulate else VZERO
        for k in range(n_k):
            b_k = VLOADN(b + k * b_row + j, n - j)
            for i in range(m):
                y[i] += a_ik[i * n_k + k] * b_k
        for i in range(m):
            VSTOREN(c + i * c_row + j, y[i], n - j)


cdef inline void rows_of_b(
    int m, Py_ssize_t K, const real* a, Py_ssize_t a_row, Py_ssize_t a_column, const real* b, Py_ssize_t b_row,
    Py_ssize_t n, real* c, Py_ssize_t c_row,
) noexcept nogil:
    cdef Py_ssize_t k = 0
    cdef int n_k = N_TILE_SUMS // m if N_TILE_SUMS // m < 8 else 8
    while k + n_k <= K:
        rows_tile(m, n_k, a + k * a_column, a_row, a_column, b + k * b_row, b_row, n, c, c_row, True)
        k += n_k
    while k < K:
        rows_tile(m, 1, a + k * a_column, a_row, a_column, b + k * b_row, b_row, n, c, c_row, True)
        k += 1


cdef void multiply_rows(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, const real* bias,
                        real* c) noexcept nogil:
    cdef Py_ssize_t first = 0, n, i, j
    cdef real* c_i
    while first < N:
        n = N - first if N - first < ROWS_BLOCK else ROWS_BLOCK
        for i in range(M):
            c_i = c + i * g.c_row + first
            if bias != NULL:
                memcpy(c_i, bias + first, n * sizeof(real))
            else:
                memset(c_i, 0, n * sizeof(real))
        if M == 1:
            rows_of_b(1, g.K, a, g.a.row, g.a.column, b + first, g.b.row, n, c + first, g.c_row)
        elif M == 2:
            rows_of_b(2, g.K, a, g.a.row, g.a.column, b + first, g.b.row, n, c + first, g.c_row)
        elif M == 3:
            rows_of_b(3, g.K, a, g.a.row, g.a.column, b + first, g.b.row, n, c + first, g.c_row)
        else:
            rows_of_b(4, g.K, a, g.a.row, g.a.column, b + first, g.b.row, n, c + first, g.c_row)
        if g.relu:
            for i in range(M):
                c_i = c + i * g.c_row + first
                for j in range(n):
                    c_i[j] = 0 if c_i[j] <= 0 else c_i[j]
        first += n


cdef void multiply_outer(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, real* c) noexcept nogil:
    """Up to 8 rows of B, which stay in the first cache while C is written row by row."""
    cdef Py_ssize_t i, k, a_column = g.a.column, b_row = g.b.row
    cdef int n_k
    for i in range(M):
        if g.K == 1:
            n_k = 1
            rows_tile(1, 1, a, 0, 0, b, 0, N, c, 0, False)
        elif g.K < 4:
            n_k = 2
            rows_tile(1, 2, a, 0, a_column, b, b_row, N, c, 0, False)
        elif g.K < 8:
            n_k = 4
            rows_tile(1, 4, a, 0, a_column, b, b_row, N, c, 0, False)
        else:
            n_k = 8
            rows_tile(1, 8, a, 0, a_column, b, b_row, N, c, 0, False)
        for k in range(n_k, g.K):
            rows_tile(1, 1, a + k * a_column, 0, 0, b + k * b_row, 0, N, c, 0, True)
        a += g.a.row
        c += g.c_row


cdef inline void add_products(Py_ssize_t K, const real* a, const real* b, vec* sums) noexcept nogil:
    cdef Py_ssize_t k = 0
    cdef int i
    while k + N_TILE_SUMS * VL <= K:
        for i in range(N_TILE_SUMS):
            sums[i] += (<const uvec*>(a + k + i * VL))[0] * (<const uvec*>(b + k + i * VL))[0]
        k += N_TILE_SUMS * VL
    while k < K:
        sums[0] += VLOADN(a + k, K - k if K - k < VL else VL) * VLOADN(b + k, K - k if K - k < VL else VL)
        k += VL


cdef real dot(Py_ssize_t K, const real* a, Py_ssize_t a_step, const real* b, Py_ssize_t b_step) noexcept nogil:
    """Σ aₖ bₖ, in N_TILE_SUMS vectors of partial sums."""
    cdef vec[N_TILE_SUMS] sums
    cdef real[512] a_here, b_here  # where they do not lie contiguous
    cdef Py_ssize_t first = 0, k, n
    cdef int i
    for i in range(N_TILE_SUMS):
        sums[i] = VZERO
    if a_step == 1 and b_step == 1:
        add_products(K, a, b, sums)
    else:
        while first < K:
            n = min(K - first, 512)
            for k in range(n):
                a_here[k] = a[(first + k) * a_step]
                b_here[k] = b[(first + k) * b_step]
            add_products(n, a_here, b_here, sums)
            first += n
    for i in range(N_TILE_SUMS // 2):
        sums[i] += sums[i + N_TILE_SUMS // 2]
    for i in range(1, N_TILE_SUMS // 2):
        sums[0] += sums[i]
    return VSUM(sums[0])
