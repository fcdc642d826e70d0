# The block of convolution, relu and pooling as Python calls it. What is not fused is the operations one by one.

cdef int take_block(str op, Conv* v, Pool* p, Py_ssize_t* x, Py_ssize_t* w, object geometry) except -1:
    """Everything that the sizes settle. 0 where they do not fit together."""
    cdef Py_ssize_t[4] before_pooling
    (stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode) = geometry
    if not take_conv(op, v, x, w, stride, padding, dilation, groups):
        return 0
    before_pooling[0] = v.N
    before_pooling[1] = w[0]
    before_pooling[2] = v.P
    before_pooling[3] = v.Q
    return take_pool(op, p, before_pooling, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)


cdef void refuse_block(str op, tuple x_shape, tuple w_shape, object geometry, bias_shape) except *:
    (stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode) = geometry
    size = words.check_conv2d(op, x_shape, w_shape, stride, padding, dilation, groups, bias_shape)
    words.check_pool2d(op, (x_shape[0], w_shape[0], *size), kernel_size, pool_stride, pool_padding, pool_dilation,
                       ceil_mode)
    raise RuntimeError(f"{op}(): refused these sizes")


cdef inline cnp.ndarray take_if_read(str op, str name, object value, bint is_read):
    """Of an argument that no gradient asked for reads, only shape and dtype count: it is not copied into order."""
    if is_read:
        return take(op, name, value)
    words.check_dtype(op, name, value, DTYPE)
    return np.asarray(value)


cdef inline bint is_fused(Conv* v, Pool* p) noexcept:
    return fits_a_block(v, p.kernel, p.stride, p.padding, p.dilation, p.P, p.Q)


def block_is_fused(input_shape, weight_shape, stride, padding, dilation, groups, kernel_size, pool_stride,
                   pool_padding, pool_dilation, ceil_mode):
    """See `plain.block_is_fused`."""
    cdef str op = "block_is_fused"
    cdef Conv v
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    geometry = (stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    take_shape(op, "input_shape", input_shape, x_shape)
    take_shape(op, "weight_shape", weight_shape, w_shape)
    if not take_block(op, &v, &p, x_shape, w_shape, geometry):
        refuse_block(op, tuple(input_shape), tuple(weight_shape), geometry, None)
    return is_fused(&v, &p)


def conv2d_relu_max_pool2d(x, w, bias, stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding,
                           pool_dilation, ceil_mode):
    """See `plain.conv2d_relu_max_pool2d`."""
    if is_for_float64(x):
        return float64_kernels.conv2d_relu_max_pool2d(x, w, bias, stride, padding, dilation, groups, kernel_size,
                                                      pool_stride, pool_padding, pool_dilation, ceil_mode)
    cdef str op = "conv2d_relu_max_pool2d"
    cdef cnp.ndarray x_nchw = take(op, "input", x), w_oihw = take(op, "weight", w)
    cdef cnp.ndarray bias_o = None if bias is None else take(op, "bias", bias)
    cdef Conv v
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    cdef int status
    geometry = (stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    if not (
        is_4d(x_nchw, x_shape)
        and is_4d(w_oihw, w_shape)
        and (bias_o is None or (cnp.PyArray_NDIM(bias_o) == 1 and cnp.PyArray_DIM(bias_o, 0) == w_shape[0]))
        and take_block(op, &v, &p, x_shape, w_shape, geometry)
    ):
        refuse_block(op, shape_of(x_nchw), shape_of(w_oihw), geometry, None if bias_o is None else shape_of(bias_o))
    if not is_fused(&v, &p):
        return relu_max_pool2d(conv2d(x_nchw, w_oihw, bias_o, stride, padding, dilation, groups), kernel_size,
                               pool_stride, pool_padding, pool_dilation, ceil_mode)
    cdef cnp.ndarray y_ncpq = fresh_4d(v.N, v.O, p.P, p.Q, REAL_TYPENUM)
    cdef cnp.ndarray offsets_ncpq = fresh_4d(v.N, v.O, p.P, p.Q, cnp.NPY_UINT8)
    cdef const real* bias_at = NULL if bias_o is None else data(bias_o)
    cdef const real* x_at = data(x_nchw)
    cdef const real* w_at = data(w_oihw)
    cdef real* y_at = data(y_ncpq)
    cdef u8* offsets_at = <u8*>DATA_OF(offsets_ncpq)
    with nogil:
        status = block_forward(&v, x_at, w_at, bias_at, y_at, offsets_at)
    if status:
        raise MemoryError(f"{op}(): no memory for the frame of an image")
    return y_ncpq, offsets_ncpq


def conv2d_relu_max_pool2d_grads(g, offsets, x, w, stride, padding, dilation, groups, kernel_size, pool_stride,
                                 pool_padding, pool_dilation, ceil_mode, wants_input, wants_weight, wants_bias):
    """See `plain.conv2d_relu_max_pool2d_grads`."""
    if is_for_float64(g):
        return float64_kernels.conv2d_relu_max_pool2d_grads(
            g, offsets, x, w, stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation,
            ceil_mode, wants_input, wants_weight, wants_bias)
    cdef str op = "conv2d_relu_max_pool2d_grads"
    cdef cnp.ndarray g_ncpq = take(op, "grad", g)
    cdef cnp.ndarray x_nchw = take_if_read(op, "input", x, wants_weight)
    cdef cnp.ndarray w_oihw = take_if_read(op, "weight", w, wants_input)
    cdef Conv v
    cdef Pool p
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    cdef Py_ssize_t[4] g_shape
    cdef cnp.npy_intp[1] n_biases
    cdef int status
    geometry = (stride, padding, dilation, groups, kernel_size, pool_stride, pool_padding, pool_dilation, ceil_mode)
    if not (
        is_4d(x_nchw, x_shape) and is_4d(w_oihw, w_shape) and take_block(op, &v, &p, x_shape, w_shape, geometry)
    ):
        refuse_block(op, shape_of(x_nchw), shape_of(w_oihw), geometry, None)
    expected = (x_shape[0], w_shape[0], p.P, p.Q)
    if not is_4d(g_ncpq, g_shape) or shape_of(g_ncpq) != expected:
        words.refuse_gradient(op, expected, shape_of(x_nchw), shape_of(g_ncpq))
    cdef cnp.ndarray offsets_ncpq = take_offsets(op, &p, offsets, g_shape)
    if not is_fused(&v, &p) or not fits_a_block_gradient(&v):
        return grads_one_by_one(g_ncpq, offsets_ncpq, x_nchw, w_oihw, (x_shape[0], w_shape[0], v.P, v.Q), geometry,
                                wants_input, wants_weight, wants_bias)
    cdef cnp.ndarray x_grad_nchw = fresh_like(x_nchw) if wants_input else None
    cdef cnp.ndarray w_grad_oihw = fresh_like(w_oihw) if wants_weight else None
    n_biases[0] = w_shape[0]
    cdef cnp.ndarray bias_grad_o = fresh(1, n_biases, REAL_TYPENUM) if wants_bias else None
    cdef const real* g_at = data(g_ncpq)
    cdef const u8* offsets_at = <const u8*>p.offsets
    cdef const real* x_at = data(x_nchw)
    cdef const real* w_at = data(w_oihw)
    cdef real* x_grad_at = data(x_grad_nchw) if wants_input else NULL
    cdef real* w_grad_at = data(w_grad_oihw) if wants_weight else NULL
    cdef real* bias_grad_at = data(bias_grad_o) if wants_bias else NULL
    with nogil:
        status = block_backward(&v, g_at, offsets_at, x_at, w_at, x_grad_at, w_grad_at, bias_grad_at)
    if status:
        raise MemoryError(f"{op}(): no memory for the sums")
    return x_grad_nchw, w_grad_oihw, bias_grad_o


cdef tuple grads_one_by_one(g, offsets, x, w, tuple shape, tuple geometry, wants_input, wants_weight, wants_bias):
    *conv_geometry, kernel_size, pool_stride, pool_padding, pool_dilation, _ = geometry
    g = max_pool2d_input_grad(g, offsets, shape, kernel_size, pool_stride, pool_padding, pool_dilation)
    return (
        conv2d_input_grad(g, w, shape_of(x), *conv_geometry) if wants_input else None,
        conv2d_weight_grad(g, x, shape_of(w), *conv_geometry) if wants_weight else None,
        np.add.reduce(g, (0, 2, 3)) if wants_bias else None,
    )
