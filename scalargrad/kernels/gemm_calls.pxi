# The matrix products as Python calls them: arguments checked, results made.

cdef enum:
    # A product of fewer operations is over before another thread could use the interpreter's lock.
    KEEPS_GIL_BELOW_FLOP = 100000


cdef int run_gemm(str op, Gemm* g) except -1:
    cdef int status
    if 2.0 * g.M * g.N * g.K * g.n_stacked < KEEPS_GIL_BELOW_FLOP:
        status = gemm(g)
    else:
        with nogil:
            status = gemm(g)
    if status:
        raise MemoryError(f"{op}(): no memory for packing")
    return 0


cdef inline void one_product(Gemm* g) noexcept:
    g.bias = NULL
    g.relu = False
    g.n_stacked = 1
    g.n_axes = 0


cdef inline Py_ssize_t stride_of(cnp.ndarray array, int axis) noexcept:
    """In numbers."""
    return cnp.PyArray_STRIDE(array, axis) // <Py_ssize_t>sizeof(real)


cdef void gemm_operands(Gemm* g, cnp.ndarray a, cnp.ndarray b):
    """Sizes and strides of the last two axes; a 1-D argument is a row on the left and a column on the right."""
    cdef int a_ndim = cnp.PyArray_NDIM(a), b_ndim = cnp.PyArray_NDIM(b)
    one_product(g)
    g.a.at = data(a)
    g.b.at = data(b)
    g.K = cnp.PyArray_DIM(a, a_ndim - 1)
    g.a.column = stride_of(a, a_ndim - 1)
    g.M = cnp.PyArray_DIM(a, a_ndim - 2) if a_ndim > 1 else 1
    g.a.row = stride_of(a, a_ndim - 2) if a_ndim > 1 else 0
    g.N = cnp.PyArray_DIM(b, b_ndim - 1) if b_ndim > 1 else 1
    g.b.column = stride_of(b, b_ndim - 1) if b_ndim > 1 else 1
    g.b.row = stride_of(b, max(b_ndim - 2, 0))
    g.c_row = g.N


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
    g.c = data(c_mn)
    run_gemm("matmul", &g)
    return c_mn


cdef matmul_stacked(cnp.ndarray a, cnp.ndarray b):
    """Products of the last two axes, the axes before them broadcast."""
    cdef Gemm g
    cdef cnp.npy_intp[64] dims
    cdef int a_axes = max(cnp.PyArray_NDIM(a) - 2, 0), b_axes = max(cnp.PyArray_NDIM(b) - 2, 0), axis, ndim
    cdef Py_ssize_t a_dim, b_dim
    gemm_operands(&g, a, b)
    g.n_axes = max(a_axes, b_axes)
    for axis in range(g.n_axes):
        a_dim = cnp.PyArray_DIM(a, axis - g.n_axes + a_axes) if axis >= g.n_axes - a_axes else 1
        b_dim = cnp.PyArray_DIM(b, axis - g.n_axes + b_axes) if axis >= g.n_axes - b_axes else 1
        g.a_strides[axis] = stride_of(a, axis - g.n_axes + a_axes) if a_dim != 1 else 0
        g.b_strides[axis] = stride_of(b, axis - g.n_axes + b_axes) if b_dim != 1 else 0
        g.dims[axis] = b_dim if a_dim == 1 else a_dim
        g.n_stacked *= g.dims[axis]
        dims[axis] = g.dims[axis]
    ndim = g.n_axes
    if cnp.PyArray_NDIM(a) > 1:
        dims[ndim] = g.M
        ndim += 1
    if cnp.PyArray_NDIM(b) > 1:
        dims[ndim] = g.N
        ndim += 1
    cdef cnp.ndarray c = fresh(ndim, dims, REAL_TYPENUM)
    g.c = data(c)
    run_gemm("matmul", &g)
    return c


cdef inline cnp.ndarray take_samples(str op, str name, object value):
    """`value` of shape (..., K) in such a layout that it is a matrix with one row stride."""
    if cnp.PyArray_Check(value) and cnp.PyArray_NDIM(<cnp.ndarray>value) == 2:
        return take_strided(op, name, value)
    return take(op, name, value)


cdef inline Py_ssize_t n_samples(cnp.ndarray x, Matrix* matrix):
    """Rows of the matrix that `x` of shape (..., K) is, and where it lies."""
    cdef int ndim = cnp.PyArray_NDIM(x), i
    cdef Py_ssize_t n = 1
    for i in range(ndim - 1):
        n *= cnp.PyArray_DIM(x, i)
    matrix.at = data(x)
    matrix.column = stride_of(x, ndim - 1)
    matrix.row = stride_of(x, 0) if ndim == 2 else cnp.PyArray_DIM(x, ndim - 1)
    return n


def linear(x, w, bias, relu=False):
    """See `plain.linear`."""
    if is_for_float64(x):
        return float64_kernels.linear(x, w, bias, relu)
    cdef cnp.ndarray x_nk = take_samples("linear", "input", x), w_mk = take_strided("linear", "weight", w)
    cdef cnp.ndarray bias_m = None if bias is None else take("linear", "bias", bias)
    cdef int ndim = cnp.PyArray_NDIM(x_nk), i
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
    one_product(&g)
    g.M = n_samples(x_nk, &g.a)
    g.N = cnp.PyArray_DIM(w_mk, 0)
    g.K = cnp.PyArray_DIM(w_mk, 1)
    for i in range(ndim - 1):
        dims[i] = cnp.PyArray_DIM(x_nk, i)
    dims[ndim - 1] = g.N
    cdef cnp.ndarray y_nm = fresh(ndim, dims, REAL_TYPENUM)
    g.b.at = data(w_mk)
    g.b.row = stride_of(w_mk, 1)
    g.b.column = stride_of(w_mk, 0)
    g.c = data(y_nm)
    g.c_row = g.N
    g.relu = relu
    if bias_m is not None:
        g.bias = data(bias_m)
    run_gemm("linear", &g)
    return y_nm


def linear_input_grad(g, w):
    """See `plain.linear_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.linear_input_grad(g, w)
    cdef cnp.ndarray g_nm = take_samples("linear_input_grad", "grad", g)
    cdef cnp.ndarray w_mk = take_strided("linear_input_grad", "weight", w)
    cdef int ndim = cnp.PyArray_NDIM(g_nm), i
    if ndim == 0 or cnp.PyArray_NDIM(w_mk) != 2 or cnp.PyArray_DIM(g_nm, ndim - 1) != cnp.PyArray_DIM(w_mk, 0):
        words.check_linear_input_grad("linear_input_grad", shape_of(g_nm), shape_of(w_mk))
    cdef Gemm product
    cdef cnp.npy_intp[64] dims
    one_product(&product)
    product.M = n_samples(g_nm, &product.a)
    product.K = cnp.PyArray_DIM(w_mk, 0)
    product.N = cnp.PyArray_DIM(w_mk, 1)
    for i in range(ndim - 1):
        dims[i] = cnp.PyArray_DIM(g_nm, i)
    dims[ndim - 1] = product.N
    cdef cnp.ndarray x_grad_nk = fresh(ndim, dims, REAL_TYPENUM)
    product.b.at = data(w_mk)
    product.b.row = stride_of(w_mk, 0)
    product.b.column = stride_of(w_mk, 1)
    product.c = data(x_grad_nk)
    product.c_row = product.N
    run_gemm("linear_input_grad", &product)
    return x_grad_nk


def linear_weight_grad(g, x):
    """See `plain.linear_weight_grad`."""
    if is_for_float64(g):
        return float64_kernels.linear_weight_grad(g, x)
    cdef cnp.ndarray g_nm = take_samples("linear_weight_grad", "grad", g)
    cdef cnp.ndarray x_nk = take_samples("linear_weight_grad", "input", x)
    cdef int ndim = cnp.PyArray_NDIM(g_nm), i
    cdef bint fits = ndim > 0 and cnp.PyArray_NDIM(x_nk) == ndim
    for i in range(ndim - 1 if fits else 0):
        fits = fits and cnp.PyArray_DIM(g_nm, i) == cnp.PyArray_DIM(x_nk, i)
    if not fits:
        words.check_linear_weight_grad("linear_weight_grad", shape_of(g_nm), shape_of(x_nk))
    cdef Gemm product
    cdef Matrix by_rows
    cdef cnp.npy_intp[2] dims
    one_product(&product)
    product.K = n_samples(g_nm, &by_rows)
    n_samples(x_nk, &product.b)
    product.a.at = by_rows.at
    product.a.row = by_rows.column
    product.a.column = by_rows.row
    product.M = dims[0] = cnp.PyArray_DIM(g_nm, ndim - 1)
    product.N = dims[1] = cnp.PyArray_DIM(x_nk, ndim - 1)
    cdef cnp.ndarray w_grad_mk = fresh(2, dims, REAL_TYPENUM)
    product.c = data(w_grad_mk)
    product.c_row = product.N
    run_gemm("linear_weight_grad", &product)
    return w_grad_mk
