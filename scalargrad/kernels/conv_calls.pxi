# conv2d as Python calls it.

cdef int take_conv(str op, Conv* v, Py_ssize_t* x, Py_ssize_t* w, object stride, object padding, object dilation,
                   object groups) except -1:
    """Everything that the sizes settle. 0 where they do not fit together."""
    cdef Py_ssize_t n_groups = groups
    cdef int i
    cdef Py_ssize_t[2] span
    take_pair(op, "stride", stride, 1, v.stride)
    take_pair(op, "padding", padding, 0, v.padding)
    take_pair(op, "dilation", dilation, 1, v.dilation)
    if n_groups < 1 or w[0] % n_groups or x[1] != w[1] * n_groups or w[2] < 1 or w[3] < 1:
        return 0
    for i in range(2):
        span[i] = x[2 + i] + 2 * v.padding[i] - v.dilation[i] * (w[2 + i] - 1) - 1
        if span[i] < 0:
            return 0
    v.N = x[0]
    v.C = w[1]
    v.H = x[2]
    v.W = x[3]
    v.O = w[0] // n_groups
    v.R = w[2]
    v.S = w[3]
    v.P = span[0] // v.stride[0] + 1
    v.Q = span[1] // v.stride[1] + 1
    v.groups = n_groups
    return 1


cdef struct ChannelSums:
    Py_ssize_t N, C, n_pixels
    const real* x
    real* sums


cdef inline vec add_up(const real* x, Py_ssize_t n) noexcept nogil:
    """A vector of partial sums of n numbers, in four chains: one alone waits for its own additions."""
    cdef vec a = VZERO, b = VZERO, c = VZERO, d = VZERO
    cdef Py_ssize_t i = 0
    while i + 4 * VL <= n:
        a += (<const uvec*>(x + i))[0]
        b += (<const uvec*>(x + i + VL))[0]
        c += (<const uvec*>(x + i + 2 * VL))[0]
        d += (<const uvec*>(x + i + 3 * VL))[0]
        i += 4 * VL
    while i + VL <= n:
        a += (<const uvec*>(x + i))[0]
        i += VL
    if i < n:
        b += VLOADN(x + i, n - i)
    return (a + b) + (c + d)


cdef void channel_sums_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef ChannelSums* j = <ChannelSums*>job
    cdef Py_ssize_t image, channel, stop, some
    cdef double total
    cdef vec sums
    for channel in range(start_of(share, n_shares, j.C), start_of(share + 1, n_shares, j.C)):
        total = 0
        image = 0
        while image < j.N:
            # Sums of a few images in the type itself, sums of those in double: large batches lose no digits.
            sums = VZERO
            stop = min(image + 8, j.N)
            for some in range(image, stop):
                sums += add_up(j.x + (some * j.C + channel) * j.n_pixels, j.n_pixels)
            total += VSUM(sums)
            image = stop
        j.sums[channel] = <real>total


cdef inline bint is_4d(cnp.ndarray array, Py_ssize_t* shape) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(array) != 4:
        return False
    for i in range(4):
        shape[i] = cnp.PyArray_DIM(array, i)
    return True


cdef inline bint is_gradient(Conv* v, Py_ssize_t* g) noexcept:
    return g[0] == v.N and g[1] == v.O * v.groups and g[2] == v.P and g[3] == v.Q


def conv2d(x, w, bias, stride, padding, dilation, groups, bint relu=False):
    """See `plain.conv2d`."""
    if is_for_float64(x):
        return float64_kernels.conv2d(x, w, bias, stride, padding, dilation, groups, relu)
    cdef cnp.ndarray x_nchw = take("conv2d", "input", x), w_oihw = take("conv2d", "weight", w)
    cdef cnp.ndarray bias_o = None if bias is None else take("conv2d", "bias", bias)
    cdef Conv v
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    cdef int status
    if not (
        is_4d(x_nchw, x_shape)
        and is_4d(w_oihw, w_shape)
        and take_conv("conv2d", &v, x_shape, w_shape, stride, padding, dilation, groups)
        and (bias_o is None or (cnp.PyArray_NDIM(bias_o) == 1 and cnp.PyArray_DIM(bias_o, 0) == w_shape[0]))
    ):
        words.check_conv2d("conv2d", shape_of(x_nchw), shape_of(w_oihw), stride, padding, dilation, groups,
                           None if bias_o is None else shape_of(bias_o))
        raise RuntimeError("conv2d(): refused these sizes")
    cdef cnp.ndarray y_nohw = fresh_4d(v.N, w_shape[0], v.P, v.Q, REAL_TYPENUM)
    cdef const real* bias_at = NULL if bias_o is None else data(bias_o)
    cdef const real* x_at = data(x_nchw)
    cdef const real* w_at = data(w_oihw)
    cdef real* y_at = data(y_nohw)
    with nogil:
        status = conv2d_forward(&v, x_at, w_at, bias_at, relu, y_at)
    if status:
        raise MemoryError("conv2d(): no memory for the frame of an image")
    return y_nohw


def conv2d_input_grad(g, w, input_shape, stride, padding, dilation, groups):
    """See `plain.conv2d_input_grad`."""
    if is_for_float64(g):
        return float64_kernels.conv2d_input_grad(g, w, input_shape, stride, padding, dilation, groups)
    cdef str op = "conv2d_input_grad"
    cdef cnp.ndarray g_nohw = take(op, "grad", g), w_oihw = take(op, "weight", w)
    cdef Conv v
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    cdef Py_ssize_t[4] g_shape
    cdef int status
    take_shape(op, "input_shape", input_shape, x_shape)
    if not (
        is_4d(g_nohw, g_shape)
        and is_4d(w_oihw, w_shape)
        and take_conv(op, &v, x_shape, w_shape, stride, padding, dilation, groups)
        and is_gradient(&v, g_shape)
    ):
        words.check_conv2d(op, tuple(input_shape), shape_of(w_oihw), stride, padding, dilation, groups, None,
                           shape_of(g_nohw))
        raise RuntimeError(f"{op}(): refused these sizes")
    cdef cnp.ndarray x_grad_nchw = fresh_4d(v.N, x_shape[1], v.H, v.W, REAL_TYPENUM)
    cdef const real* g_at = data(g_nohw)
    cdef const real* w_at = data(w_oihw)
    cdef real* x_grad_at = data(x_grad_nchw)
    with nogil:
        status = conv2d_backward_input(&v, g_at, w_at, x_grad_at)
    if status:
        raise MemoryError(f"{op}(): no memory for the frame of an image")
    return x_grad_nchw


def conv2d_weight_grad(g, x, weight_shape, stride, padding, dilation, groups):
    """See `plain.conv2d_weight_grad`."""
    if is_for_float64(g):
        return float64_kernels.conv2d_weight_grad(g, x, weight_shape, stride, padding, dilation, groups)
    cdef str op = "conv2d_weight_grad"
    cdef cnp.ndarray g_nohw = take(op, "grad", g), x_nchw = take(op, "input", x)
    cdef Conv v
    cdef Py_ssize_t[4] x_shape
    cdef Py_ssize_t[4] w_shape
    cdef Py_ssize_t[4] g_shape
    cdef int status
    take_shape(op, "weight_shape", weight_shape, w_shape)
    if not (
        is_4d(g_nohw, g_shape)
        and is_4d(x_nchw, x_shape)
        and take_conv(op, &v, x_shape, w_shape, stride, padding, dilation, groups)
        and is_gradient(&v, g_shape)
    ):
        words.check_conv2d(op, shape_of(x_nchw), tuple(weight_shape), stride, padding, dilation, groups, None,
                           shape_of(g_nohw))
        raise RuntimeError(f"{op}(): refused these sizes")
    cdef cnp.ndarray w_grad_oihw = fresh_4d(w_shape[0], w_shape[1], w_shape[2], w_shape[3], REAL_TYPENUM)
    cdef const real* g_at = data(g_nohw)
    cdef const real* x_at = data(x_nchw)
    cdef real* w_grad_at = data(w_grad_oihw)
    with nogil:
        status = conv2d_backward_weight(&v, g_at, x_at, w_grad_at)
    if status:
        raise MemoryError(f"{op}(): no memory for the sums")
    return w_grad_oihw


def sum_by_channel(x):
    """See `plain.sum_by_channel`."""
    if is_for_float64(x):
        return float64_kernels.sum_by_channel(x)
    cdef cnp.ndarray x_nchw = take("sum_by_channel", "input", x)
    cdef Py_ssize_t[4] shape
    cdef ChannelSums j
    cdef cnp.npy_intp C
    if not is_4d(x_nchw, shape):
        words.check_images("sum_by_channel", shape_of(x_nchw))
    C = shape[1]
    cdef cnp.ndarray sums_c = fresh(1, &C, REAL_TYPENUM)
    j.N = shape[0]
    j.C = C
    j.n_pixels = shape[2] * shape[3]
    j.x = data(x_nchw)
    j.sums = data(sums_c)
    with nogil:
        run(channel_sums_worker, &j, shares_of(4.0 * j.N * j.C * j.n_pixels, j.C))
    return sums_c
