# Matrix products. A is never packed: it is the broadcast operand, at any strides. B is packed a panel of 3 vectors at a
# time, unless its rows can be read as they lie.

cdef enum Method:
    DOTS     # few rows, and both run along k: dot products, VL of them at a time
    DIRECT   # B as it lies
    PANELS   # one panel of B packed at a time
    BLOCKED  # K in blocks, so that a panel of B stays in the first cache and A's columns in the second

# Sizes measured on Zen 5 (48 KB first, 1 MB second cache), n = 16 to 2048.
cdef enum:
    K_BLOCK = 384
    M_BLOCK = 96
    N_BLOCK = 1008

cdef struct Matrix:
    real* at
    Py_ssize_t row, column  # strides

cdef struct Gemm:
    Py_ssize_t M, N, K
    Matrix a, b
    real* c
    Py_ssize_t c_row
    bint accumulate
    Method method
    # For a stack of products: how many, and where each one's matrices start.
    Py_ssize_t n_stacked
    Py_ssize_t* starts
    char* scratch
    Py_ssize_t n_scratch_bytes  # of each share


cdef Method method_for(Py_ssize_t M, Py_ssize_t N, Py_ssize_t K, Matrix* a, Matrix* b) noexcept nogil:
    # The order in which an element is summed follows from this choice alone, which looks at the whole product and never
    # at a share of it: so the number of threads does not show in the result.
    if M <= 4 and a.column == 1 and b.row == 1:
        return DOTS
    if (a.row == 1 and a.column > 512 and K > K_BLOCK) or K > 3072:
        return BLOCKED
    if b.column == 1 and K * N <= 131072:
        return DIRECT
    return PANELS


cdef void pack_panel(Matrix* b, Py_ssize_t first_k, Py_ssize_t K, Py_ssize_t first_n, Py_ssize_t n, int n_vectors,
                     real* panel) noexcept nogil:
    """K rows of n columns, side by side and in whole vectors."""
    cdef const real* at = b.at + first_k * b.row + first_n * b.column
    cdef Py_ssize_t width = n_vectors * VL, k, j
    if b.column == 1:
        for k in range(K):
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


cdef void multiply_panel(Py_ssize_t M, Py_ssize_t n, int n_vectors, Py_ssize_t K, const real* a, Py_ssize_t a_row,
                         Py_ssize_t a_column, const real* panel, Py_ssize_t panel_row, real* c, Py_ssize_t c_row,
                         bint accumulate) noexcept nogil:
    """All rows of A times one panel of B."""
    cdef Py_ssize_t whole = M // ROWS, rest = M % ROWS, n_last = n - (n_vectors - 1) * VL
    if whole:
        gemm_tiles(gemm_tile, ROWS, n_vectors, K, a, a_row, a_column, ROWS * a_row, panel, panel_row, c, c_row, n_last,
                   accumulate, whole)
    if rest:
        a += whole * ROWS * a_row
        c += whole * ROWS * c_row
        gemm_tiles(gemm_tile, <int>rest, n_vectors, K, a, a_row, a_column, 0, panel, panel_row, c, c_row, n_last,
                   accumulate, 1)


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


cdef inline vec dots(const real* a, const real* b, Py_ssize_t b_row, Py_ssize_t last, Py_ssize_t K) noexcept nogil:
    """a's dot products with VL rows of b; rows past `last` are read as copies of it."""
    cdef vec[VL] sums
    cdef vec a_k
    cdef int i
    cdef Py_ssize_t k = 0
    for i in range(VL):
        sums[i] = VZERO
    while k + VL <= K:
        a_k = (<const uvec*>(a + k))[0]
        for i in range(VL):
            sums[i] += a_k * (<const uvec*>(b + (i if i < last else last) * b_row + k))[0]
        k += VL
    if k < K:
        a_k = VLOADN(a + k, K - k)
        for i in range(VL):
            sums[i] += a_k * VLOADN(b + (i if i < last else last) * b_row + k, K - k)
    return sums_of_lanes(sums)


cdef void multiply_dots(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, real* c) noexcept nogil:
    cdef Py_ssize_t i, j = 0, n
    cdef vec y
    while j < N:
        n = N - j if N - j < VL else VL
        for i in range(M):
            if n == VL:
                y = dots(a + i * g.a.row, b + j * g.b.column, g.b.column, VL, g.K)
            else:
                y = dots(a + i * g.a.row, b + j * g.b.column, g.b.column, n - 1, g.K)
            if g.accumulate:
                y += VLOADN(c + i * g.c_row + j, n)
            VSTOREN(c + i * g.c_row + j, y, n)
        j += n


cdef void multiply_blocked(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, Matrix* b, real* c,
                           real* packed) noexcept nogil:
    cdef Py_ssize_t first_k = 0, K, first_n, n_here, first_m, m_here, j, n
    cdef int n_vectors
    cdef bint accumulate
    while first_k < g.K:
        K = g.K - first_k
        if K > K_BLOCK:
            K = K_BLOCK if K >= 2 * K_BLOCK else (K + 1) // 2
        accumulate = g.accumulate or first_k > 0
        first_n = 0
        while first_n < N:
            n_here = N - first_n if N - first_n < N_BLOCK else N_BLOCK
            j = 0
            while j < n_here:
                n_vectors = vectors_in(n_here - j)
                n = n_here - j if n_here - j < n_vectors * VL else n_vectors * VL
                pack_panel(b, first_k, K, first_n + j, n, n_vectors, packed + j * K)
                j += n
            first_m = 0
            while first_m < M:
                m_here = M - first_m if M - first_m < M_BLOCK else M_BLOCK
                j = 0
                while j < n_here:
                    n_vectors = vectors_in(n_here - j)
                    n = n_here - j if n_here - j < n_vectors * VL else n_vectors * VL
                    multiply_panel(m_here, n, n_vectors, K, a + first_m * g.a.row + first_k * g.a.column, g.a.row,
                                   g.a.column, packed + j * K, n_vectors * VL,
                                   c + first_m * g.c_row + first_n + j, g.c_row, accumulate)
                    j += n
                first_m += m_here
            first_n += n_here
        first_k += K


cdef void multiply(Gemm* g, Py_ssize_t M, Py_ssize_t N, const real* a, const real* b, real* c,
                   real* packed) noexcept nogil:
    """One product, or M rows and N columns of it."""
    cdef Py_ssize_t j = 0, n
    cdef int n_vectors
    cdef Matrix from_b
    from_b.at = <real*>b
    from_b.row = g.b.row
    from_b.column = g.b.column
    if g.method == DOTS:
        multiply_dots(g, M, N, a, b, c)
    elif g.method == BLOCKED:
        multiply_blocked(g, M, N, a, &from_b, c, packed)
    else:
        while j < N:
            n_vectors = vectors_in(N - j)
            n = N - j if N - j < n_vectors * VL else n_vectors * VL
            if g.method == DIRECT and n == n_vectors * VL:
                multiply_panel(M, n, n_vectors, g.K, a, g.a.row, g.a.column, b + j * g.b.column, g.b.row, c + j,
                               g.c_row, g.accumulate)
            else:
                pack_panel(&from_b, 0, g.K, j, n, n_vectors, packed)
                multiply_panel(M, n, n_vectors, g.K, a, g.a.row, g.a.column, packed, n_vectors * VL, c + j, g.c_row,
                               g.accumulate)
            j += n


cdef void gemm_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Gemm* g = <Gemm*>job
    cdef real* packed = <real*>(g.scratch + share * g.n_scratch_bytes)
    cdef Py_ssize_t i, first, last
    if g.n_stacked > 1:
        for i in range(start_of(share, n_shares, g.n_stacked), start_of(share + 1, n_shares, g.n_stacked)):
            multiply(g, g.M, g.N, g.a.at + g.starts[2 * i], g.b.at + g.starts[2 * i + 1], g.c + i * g.M * g.N, packed)
    elif g.M >= g.N:
        first = start_of(share, n_shares, (g.M + ROWS - 1) // ROWS) * ROWS
        last = min(start_of(share + 1, n_shares, (g.M + ROWS - 1) // ROWS) * ROWS, g.M)
        multiply(g, last - first, g.N, g.a.at + first * g.a.row, g.b.at, g.c + first * g.c_row, packed)
    else:
        first = start_of(share, n_shares, (g.N + PANEL - 1) // PANEL) * PANEL
        last = min(start_of(share + 1, n_shares, (g.N + PANEL - 1) // PANEL) * PANEL, g.N)
        multiply(g, g.M, last - first, g.a.at, g.b.at + first * g.b.column, g.c + first, packed)


cdef int gemm(Gemm* g) noexcept nogil:
    """Runs the product; -1 where there is no memory for it. c is (M, N), or a stack of (M, N), with c_row = N."""
    cdef Matrix swap
    cdef Py_ssize_t n_units, n_shares, n_packed
    cdef void* memory
    if g.M == 0 or g.N == 0 or g.n_stacked == 0:
        return 0
    if g.N == 1 and g.n_stacked == 1 and g.a.column == 1:
        # A matrix times a column: as a row times the transpose, A's rows are read along their length.
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
    g.method = method_for(g.M, g.N, g.K, &g.a, &g.b)
    n_packed = g.K * PANEL if g.method != BLOCKED else K_BLOCK * ((g.N if g.N < N_BLOCK else N_BLOCK) + PANEL)
    n_units = (g.M + ROWS - 1) // ROWS if g.M >= g.N else (g.N + PANEL - 1) // PANEL
    if g.n_stacked > 1:
        n_units = g.n_stacked
    n_shares = shares_of(2.0 * g.M * g.N * g.K * g.n_stacked, n_units)
    g.n_scratch_bytes = lines(n_packed, sizeof(real)) if g.method != DOTS else 0
    memory = malloc(n_shares * g.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    g.scratch = on_a_line(memory)
    run(gemm_worker, g, n_shares)
    free(memory)
    return 0


cdef void gemm_operands(Gemm* g, cnp.ndarray a, cnp.ndarray b):
    """Sizes and strides of the last two axes; a 1-D argument is a row on the left and a column on the right."""
    cdef int a_ndim = cnp.PyArray_NDIM(a), b_ndim = cnp.PyArray_NDIM(b)
    g.a.at = data(a)
    g.b.at = data(b)
    g.K = cnp.PyArray_DIM(a, a_ndim - 1)
    g.a.column = cnp.PyArray_STRIDE(a, a_ndim - 1) // <Py_ssize_t>sizeof(real)
    g.M = cnp.PyArray_DIM(a, a_ndim - 2) if a_ndim > 1 else 1
    g.a.row = cnp.PyArray_STRIDE(a, a_ndim - 2) // <Py_ssize_t>sizeof(real) if a_ndim > 1 else 0
    g.N = cnp.PyArray_DIM(b, b_ndim - 1) if b_ndim > 1 else 1
    g.b.column = cnp.PyArray_STRIDE(b, b_ndim - 1) // <Py_ssize_t>sizeof(real) if b_ndim > 1 else 1
    g.b.row = cnp.PyArray_STRIDE(b, max(b_ndim - 2, 0)) // <Py_ssize_t>sizeof(real)
    g.c_row = g.N
    g.accumulate = False
    g.n_stacked = 1
    g.starts = NULL


def matmul(a, b):
    """See `plain.matmul`."""
    if is_for_float64(a):
        return float64_kernels.matmul(a, b)
    cdef cnp.ndarray a_mk = take_strided("matmul", "a", a), b_kn = take_strided("matmul", "b", b)
    cdef int a_ndim = cnp.PyArray_NDIM(a_mk), b_ndim = cnp.PyArray_NDIM(b_kn)
    if a_ndim == 0 or b_ndim == 0 or (
        cnp.PyArray_DIM(a_mk, a_ndim - 1) != cnp.PyArray_DIM(b_kn, max(b_ndim - 2, 0))
    ) or a_ndim > 2 or b_ndim > 2:
        words.check_matmul("matmul", shape_of(a_mk), shape_of(b_kn))
        return matmul_stacked(a_mk, b_kn)
    cdef Gemm g
    cdef cnp.npy_intp[2] dims
    gemm_operands(&g, a_mk, b_kn)
    dims[0] = g.M if a_ndim > 1 else g.N
    dims[1] = g.N
    cdef cnp.ndarray c_mn = fresh(a_ndim + b_ndim - 2, dims, REAL_TYPENUM)
    cdef int status
    g.c = data(c_mn)
    with nogil:
        status = gemm(&g)
    if status:
        raise MemoryError("matmul(): no memory for packing")
    return c_mn


cdef matmul_stacked(cnp.ndarray a, cnp.ndarray b):
    """Products of the last two axes, the axes before them broadcast."""
    batch = np.broadcast_shapes(batch_axes(shape_of(a)), batch_axes(shape_of(b)))
    cdef cnp.ndarray starts = np.empty((*batch, 2), np.intp)
    # Where each product's matrices start, in numbers: index times stride, summed over the axes and broadcast.
    (<object>starts)[..., 0] = starts_of(a, batch)
    (<object>starts)[..., 1] = starts_of(b, batch)
    cdef Gemm g
    cdef int status
    gemm_operands(&g, a, b)
    shape = batch + ((g.M,) if cnp.PyArray_NDIM(a) > 1 else ()) + ((g.N,) if cnp.PyArray_NDIM(b) > 1 else ())
    cdef cnp.npy_intp[64] dims
    cdef int i
    for i in range(len(shape)):
        dims[i] = shape[i]
    cdef cnp.ndarray c = fresh(len(shape), dims, REAL_TYPENUM)
    g.c = data(c)
    g.n_stacked = cnp.PyArray_SIZE(starts) // 2
    g.starts = <Py_ssize_t*>cnp.PyArray_DATA(starts)
    with nogil:
        if g.n_stacked == 1:
            g.a.at += g.starts[0]
            g.b.at += g.starts[1]
        status = gemm(&g)
    if status:
        raise MemoryError("matmul(): no memory for packing")
    return c


cdef tuple batch_axes(tuple per_axis):
    return per_axis[:max(len(per_axis) - 2, 0)]


cdef starts_of(cnp.ndarray array, tuple batch):
    starts = np.zeros((), np.intp)
    for size, stride in zip(batch_axes(shape_of(array)), batch_axes((<object>array).strides)):
        starts = starts[..., None] + np.arange(size) * (stride // DTYPE.itemsize)
    return np.broadcast_to(starts, batch)


def linear(x, w, bias):
    """See `plain.linear`."""
    if is_for_float64(x):
        return float64_kernels.linear(x, w, bias)
    cdef cnp.ndarray x_nk = take("linear", "input", x), w_mk = take_strided("linear", "weight", w)
    cdef cnp.ndarray bias_m = None if bias is None else take("linear", "bias", bias)
    cdef int ndim = cnp.PyArray_NDIM(x_nk), i, status
    cdef Gemm g
    if (
        ndim == 0
        or cnp.PyArray_NDIM(w_mk) != 2
        or cnp.PyArray_DIM(x_nk, ndim - 1) != cnp.PyArray_DIM(w_mk, 1)
        or (bias_m is not None and (
            cnp.PyArray_NDIM(bias_m) != 1 or cnp.PyArray_DIM(bias_m, 0) != cnp.PyArray_DIM(w_mk, 0)))
    ):
        words.check_linear("linear", shape_of(x_nk), shape_of(w_mk), None if bias_m is None else shape_of(bias_m))
    cdef cnp.npy_intp[64] dims
    g.M = 1
    for i in range(ndim - 1):
        dims[i] = cnp.PyArray_DIM(x_nk, i)
        g.M *= dims[i]
    g.N = cnp.PyArray_DIM(w_mk, 0)
    g.K = cnp.PyArray_DIM(w_mk, 1)
    dims[ndim - 1] = g.N
    cdef cnp.ndarray y_nm = fresh(ndim, dims, REAL_TYPENUM)
    g.a.at = data(x_nk)
    g.a.row = g.K
    g.a.column = 1
    g.b.at = data(w_mk)
    g.b.row = cnp.PyArray_STRIDE(w_mk, 1) // <Py_ssize_t>sizeof(real)
    g.b.column = cnp.PyArray_STRIDE(w_mk, 0) // <Py_ssize_t>sizeof(real)
    g.c = data(y_nm)
    g.c_row = g.N
    g.n_stacked = 1
    g.starts = NULL
    g.accumulate = bias_m is not None
    cdef const real* bias_at = NULL if bias_m is None else data(bias_m)
    cdef Py_ssize_t row
    with nogil:
        if bias_at != NULL:
            for row in range(g.M):
                memcpy(g.c + row * g.N, bias_at, g.N * sizeof(real))
        status = gemm(&g)
    if status:
        raise MemoryError("linear(): no memory for packing")
    return y_nm
