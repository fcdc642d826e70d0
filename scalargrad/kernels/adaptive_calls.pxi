# The adaptive poolings as Python calls them: windows that divide an image into a given number of parts.

cdef int take_adaptive(str op, Pool* p, Py_ssize_t* x, Py_ssize_t P, Py_ssize_t Q) except -1:
    """Sizes of a pooling of images of shape x, none of them empty, to P x Q."""
    cdef bint halves = x[2] == 2 * P and x[3] == 2 * Q
    cdef int i
    p.n_planes = x[0] * x[1]
    p.H = x[2]
    p.W = x[3]
    p.P = P
    p.Q = Q
    for i in range(2):
        p.kernel[i] = p.stride[i] = 2 if halves else 0
        p.padding[i] = 0
        p.dilation[i] = 1
    p.divisor = 0
    p.with_relu = False
    p.offset_bytes = 8
    return 0


cdef cnp.ndarray take_positions(str op, Pool* p, object positions, Py_ssize_t* shape):
    words.check_positions(op, positions, (shape[0], shape[1], shape[2], shape[3]))
    cdef cnp.ndarray array = cnp.PyArray_FROM_OTF(positions, cnp.NPY_INT64,
                                                  cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_NOTSWAPPED)
    p.offsets = DATA_OF(array)
    return array


cdef object adaptive_pool(str op, object x, object output_size, bint is_max):
    cdef cnp.ndarray x_nchw = take(op, "input", x)
    cdef cnp.ndarray positions_ncpq = None
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[2] size
    cdef int status
    take_pair(op, "output_size", output_size, 0, size)
    if not is_4d(x_nchw, x_shape) or x_shape[1] == 0 or x_shape[2] == 0 or x_shape[3] == 0:
        words.check_adaptive_pool2d(op, shape_of(x_nchw), output_size)
        raise RuntimeError(f"{op}(): refused these sizes")
    take_adaptive(op, &p, x_shape, size[0], size[1])
    cdef cnp.ndarray y_ncpq = fresh_4d(x_shape[0], x_shape[1], p.P, p.Q, REAL_TYPENUM)
    p.x = data(x_nchw)
    p.y = data(y_ncpq)
    if is_max:
        if <double>p.H * p.W > LARGEST_SIZE:
            raise MemoryError(f"{op}(): no memory for the positions in an image of {p.H} × {p.W}")
        positions_ncpq = fresh_4d(x_shape[0], x_shape[1], p.P, p.Q, cnp.NPY_INT64)
        p.offsets = DATA_OF(positions_ncpq)
        p.kernel[0] = 0
    with nogil:
        status = run_pool(&p, max_pool_worker if is_max else avg_pool_worker, FORWARD, True, True)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return (y_ncpq, positions_ncpq) if is_max else y_ncpq


cdef cnp.ndarray adaptive_pool_grad(str op, object g, object positions, object input_shape, bint is_max):
    cdef cnp.ndarray g_ncpq = take(op, "grad", g), positions_ncpq
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] g_shape
    cdef int status
    take_shape(op, "input_shape", input_shape, x_shape)
    if (
        not is_4d(g_ncpq, g_shape) or g_shape[0] != x_shape[0] or g_shape[1] != x_shape[1]
        or x_shape[1] == 0 or x_shape[2] == 0 or x_shape[3] == 0
    ):
        words.check_adaptive_pool2d_gradient(op, shape_of(g_ncpq), tuple(input_shape))
        raise RuntimeError(f"{op}(): refused these sizes")
    take_adaptive(op, &p, x_shape, g_shape[2], g_shape[3])
    if is_max:
        positions_ncpq = take_positions(op, &p, positions, g_shape)
        p.kernel[0] = 0
    cdef cnp.ndarray x_grad_nchw = fresh_4d(x_shape[0], x_shape[1], p.H, p.W, REAL_TYPENUM)
    p.x = data(g_ncpq)
    p.y = data(x_grad_nchw)
    with nogil:
        status = run_pool(&p, max_pool_grad_worker if is_max else avg_pool_grad_worker, BACKWARD, True, True)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return x_grad_nchw


def adaptive_avg_pool2d(x, output_size):
    """See `plain.adaptive_avg_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.adaptive_avg_pool2d(x, output_size)
    return adaptive_pool("adaptive_avg_pool2d", x, output_size, False)


def adaptive_avg_pool2d_input_grad(g, input_shape):
    """See `plain.adaptive_avg_pool2d_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.adaptive_avg_pool2d_input_grad(g, input_shape)
    return adaptive_pool_grad("adaptive_avg_pool2d_input_grad", g, None, input_shape, False)


def adaptive_max_pool2d(x, output_size):
    """See `plain.adaptive_max_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.adaptive_max_pool2d(x, output_size)
    return adaptive_pool("adaptive_max_pool2d", x, output_size, True)


def adaptive_max_pool2d_input_grad(g, positions, input_shape):
    """See `plain.adaptive_max_pool2d_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.adaptive_max_pool2d_input_grad(g, positions, input_shape)
    return adaptive_pool_grad("adaptive_max_pool2d_input_grad", g, positions, input_shape, True)
