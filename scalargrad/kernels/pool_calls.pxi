# The poolings as Python calls them.

cdef int take_pool(str op, Pool* p, Py_ssize_t* x, object kernel_size, object stride, object padding, object dilation,
                   bint ceil_mode) except -1:
    """Everything that the sizes settle. 0 where they do not fit together."""
    cdef Py_ssize_t[2] size
    cdef Py_ssize_t span
    cdef int i
    take_pair(op, "kernel_size", kernel_size, 1, p.kernel)
    take_pair(op, "stride", stride, 1, p.stride)
    take_pair(op, "padding", padding, 0, p.padding)
    take_pair(op, "dilation", dilation, 1, p.dilation)
    for i in range(2):
        if p.padding[i] > (p.dilation[i] * (p.kernel[i] - 1) + 1) // 2:
            return 0
        span = x[2 + i] + 2 * p.padding[i] - p.dilation[i] * (p.kernel[i] - 1) - 1
        if ceil_mode:
            if span <= -p.stride[i]:
                return 0
            size[i] = (ceil_div(span, p.stride[i]) if span > 0 else 0) + 1
            if (size[i] - 1) * p.stride[i] >= x[2 + i] + p.padding[i]:
                size[i] -= 1
        else:
            size[i] = span // p.stride[i] + 1 if span >= 0 else 0
        if size[i] < 1:
            return 0
    p.n_planes = x[0] * x[1]
    p.H = x[2]
    p.W = x[3]
    p.P = size[0]
    p.Q = size[1]
    p.divisor = 0
    return 1


cdef inline bint is_gradient_of(Pool* p, Py_ssize_t* x, Py_ssize_t* g) noexcept:
    return g[0] == x[0] and g[1] == x[1] and g[2] == p.P and g[3] == p.Q


cdef int take_pool_gradient(str op, Pool* p, Py_ssize_t* g, Py_ssize_t* x, object kernel_size, object stride,
                            object padding, object dilation) except -1:
    """The same for a gradient, whose own size says whether the pooling had `ceil_mode`."""
    cdef bint fits = take_pool(op, p, x, kernel_size, stride, padding, dilation, False)
    if not fits or g[2] != p.P or g[3] != p.Q:
        fits = take_pool(op, p, x, kernel_size, stride, padding, dilation, True)
    return fits and is_gradient_of(p, x, g)


cdef inline bint all_equal(Py_ssize_t* a, Py_ssize_t* b) noexcept:
    return a[0] == b[0] and a[1] == b[1] and a[2] == b[2] and a[3] == b[3]


cdef cnp.ndarray take_offsets(str op, Pool* p, object offsets, Py_ssize_t* shape):
    cdef cnp.ndarray array
    cdef Py_ssize_t[4] own_shape
    p.offset_bytes = 1 if p.kernel[0] * p.kernel[1] <= 255 else 4
    cdef int typenum = cnp.NPY_UINT8 if p.offset_bytes == 1 else cnp.NPY_INT32
    if cnp.PyArray_Check(offsets) and cnp.PyArray_TYPE(<cnp.ndarray>offsets) == typenum:
        array = <cnp.ndarray>offsets
        if cnp.PyArray_ISCARRAY_RO(array) and is_4d(array, own_shape) and all_equal(shape, own_shape):
            p.offsets = DATA_OF(array)
            return array
    words.check_offsets(op, offsets, (shape[0], shape[1], shape[2], shape[3]), (p.kernel[0], p.kernel[1]))
    array = cnp.PyArray_FROM_OTF(offsets, typenum, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_NOTSWAPPED)
    p.offsets = DATA_OF(array)
    return array


cdef tuple max_pool(str op, object x, object kernel_size, object stride, object padding, object dilation,
                    bint ceil_mode, bint with_relu):
    cdef cnp.ndarray x_nchw = take(op, "input", x)
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef int status
    if not is_4d(x_nchw, x_shape) or not take_pool(op, &p, x_shape, kernel_size, stride, padding, dilation, ceil_mode):
        words.check_pool2d(op, shape_of(x_nchw), kernel_size, stride, padding, dilation, ceil_mode)
        raise RuntimeError(f"{op}(): refused these sizes")
    p.offset_bytes = 1 if p.kernel[0] * p.kernel[1] <= 255 else 4
    p.with_relu = with_relu
    cdef cnp.ndarray y_ncpq = fresh_4d(x_shape[0], x_shape[1], p.P, p.Q, REAL_TYPENUM)
    cdef cnp.ndarray offsets_ncpq = fresh_4d(x_shape[0], x_shape[1], p.P, p.Q,
                                             cnp.NPY_UINT8 if p.offset_bytes == 1 else cnp.NPY_INT32)
    p.x = data(x_nchw)
    p.y = data(y_ncpq)
    p.offsets = DATA_OF(offsets_ncpq)
    with nogil:
        status = run_pool(&p, max_pool_worker, FORWARD, False, True)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return y_ncpq, offsets_ncpq


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    """See `plain.max_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    return max_pool("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, False)


def relu_max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    """See `plain.relu_max_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.relu_max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    return max_pool("relu_max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_input_grad(g, offsets, input_shape, kernel_size, stride, padding, dilation):
    """See `plain.max_pool2d_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.max_pool2d_input_grad(g, offsets, input_shape, kernel_size, stride, padding, dilation)
    cdef str op = "max_pool2d_input_grad"
    cdef cnp.ndarray g_ncpq = take(op, "grad", g)
    cdef Pool p
    cdef Py_ssize_t[4] g_shape
    cdef Py_ssize_t[4] x_shape
    cdef int status
    take_shape(op, "input_shape", input_shape, x_shape)
    if not is_4d(g_ncpq, g_shape) or not take_pool_gradient(op, &p, g_shape, x_shape, kernel_size, stride, padding,
                                                            dilation):
        words.check_pool2d_gradient(op, shape_of(g_ncpq), tuple(input_shape), kernel_size, stride, padding, dilation)
        raise RuntimeError(f"{op}(): refused these sizes")
    cdef cnp.ndarray offsets_ncpq = take_offsets(op, &p, offsets, g_shape)
    cdef cnp.ndarray x_grad_nchw = fresh_4d(x_shape[0], x_shape[1], p.H, p.W, REAL_TYPENUM)
    p.x = data(g_ncpq)
    p.y = data(x_grad_nchw)
    with nogil:
        status = run_pool(&p, max_pool_grad_worker, BACKWARD, False, True)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return x_grad_nchw


def max_pool2d_take(x, offsets, kernel_size, stride, padding, dilation):
    """See `plain.max_pool2d_take`."""
    if is_for_float64(x):
        return float64_kernels.max_pool2d_take(x, offsets, kernel_size, stride, padding, dilation)
    cdef str op = "max_pool2d_take"
    cdef cnp.ndarray x_nchw = take(op, "input", x), given = words.as_array(op, "offsets", offsets)
    cdef Pool p
    cdef Py_ssize_t[4] y_shape
    cdef Py_ssize_t[4] x_shape
    cdef int status
    if not is_4d(x_nchw, x_shape) or not is_4d(given, y_shape) or not take_pool_gradient(
        op, &p, y_shape, x_shape, kernel_size, stride, padding, dilation
    ):
        words.check_pool2d_gradient(op, shape_of(given), shape_of(x_nchw), kernel_size, stride, padding, dilation)
        raise RuntimeError(f"{op}(): refused these sizes")
    cdef cnp.ndarray offsets_ncpq = take_offsets(op, &p, given, y_shape)
    cdef cnp.ndarray y_ncpq = fresh_4d(y_shape[0], y_shape[1], p.P, p.Q, REAL_TYPENUM)
    p.x = data(x_nchw)
    p.y = data(y_ncpq)
    with nogil:
        status = run_pool(&p, max_pool_take_worker, FORWARD, False, True)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return y_ncpq


cdef int take_divisor(str op, Pool* p, object divisor_override) except -1:
    p.divisor = 0
    if divisor_override is not None:
        p.divisor = divisor_override
        if p.divisor == 0:
            raise RuntimeError(f"{op}(): expected divisor_override to be nonzero, got 0")
    return 0


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """See `plain.avg_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                          divisor_override)
    cdef str op = "avg_pool2d"
    cdef cnp.ndarray x_nchw = take(op, "input", x)
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef bint with_padding = count_include_pad
    cdef int status
    if not is_4d(x_nchw, x_shape) or not take_pool(op, &p, x_shape, kernel_size, stride, padding, (1, 1), ceil_mode):
        words.check_pool2d(op, shape_of(x_nchw), kernel_size, stride, padding, (1, 1), ceil_mode)
        raise RuntimeError(f"{op}(): refused these sizes")
    take_divisor(op, &p, divisor_override)
    cdef cnp.ndarray y_ncpq = fresh_4d(x_shape[0], x_shape[1], p.P, p.Q, REAL_TYPENUM)
    p.x = data(x_nchw)
    p.y = data(y_ncpq)
    with nogil:
        status = run_pool(&p, avg_pool_worker, FORWARD, False, with_padding)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return y_ncpq


def avg_pool2d_input_grad(g, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                          divisor_override):
    """See `plain.avg_pool2d_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.avg_pool2d_input_grad(g, input_shape, kernel_size, stride, padding, ceil_mode,
                                                     count_include_pad, divisor_override)
    cdef str op = "avg_pool2d_input_grad"
    cdef cnp.ndarray g_ncpq = take(op, "grad", g)
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] g_shape
    cdef bint with_padding = count_include_pad
    cdef int status
    take_shape(op, "input_shape", input_shape, x_shape)
    if not take_pool(op, &p, x_shape, kernel_size, stride, padding, (1, 1), ceil_mode):
        words.check_pool2d(op, tuple(input_shape), kernel_size, stride, padding, (1, 1), ceil_mode)
        raise RuntimeError(f"{op}(): refused these sizes")
    take_divisor(op, &p, divisor_override)
    if not is_4d(g_ncpq, g_shape) or not is_gradient_of(&p, x_shape, g_shape):
        words.refuse_gradient(op, (x_shape[0], x_shape[1], p.P, p.Q), tuple(input_shape), shape_of(g_ncpq))
    cdef cnp.ndarray x_grad_nchw = fresh_4d(x_shape[0], x_shape[1], p.H, p.W, REAL_TYPENUM)
    p.x = data(g_ncpq)
    p.y = data(x_grad_nchw)
    with nogil:
        status = run_pool(&p, avg_pool_grad_worker, BACKWARD, False, with_padding)
    if status:
        raise MemoryError(f"{op}(): no memory for the planes")
    return x_grad_nchw
