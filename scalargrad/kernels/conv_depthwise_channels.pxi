# Depthwise 3 × 3 convolution and its weights' gradient with channels in the lanes, for images so small that a row
# leaves most lanes empty: planes are turned, a vector of channels at once, into a frame that has the padding around it.
#
# 8 images of 1024 × 7 × 7, float32, AVX-512: forward 194 us with pixels in the lanes and 139 so, weights 216 and 139.

cdef enum:
    TURNED_BYTES = 20 << 10  # of a frame of one vector of channels

cdef struct TurnedPlanes:
    Conv conv
    const real* x
    const real* w     # forward, with
    const real* bias  # or NULL, and
    bint relu
    const real* g     # of the outputs, or NULL if they are computed
    real* y           # the outputs, or the gradient of the weights
    Py_ssize_t n_rows, n_columns  # of the frame, as far as windows reach
    real* scratch
    Py_ssize_t n_frame, n_pixels, n_scratch


cdef void lay_turned(Conv* v, TurnedPlanes* j) noexcept nogil:
    j.conv = v[0]
    j.n_rows = (v.P - 1) * v.stride[0] + 3
    j.n_columns = (v.Q - 1) * v.stride[1] + 3
    j.n_frame = j.n_rows * j.n_columns * VL
    j.n_pixels = max(v.H * v.W, v.P * v.Q) * VL
    j.n_scratch = j.n_frame + j.n_pixels


cdef bint turns_planes(Conv* v, TurnedPlanes* j) noexcept nogil:
    """Whether turning pays. Lays the frame."""
    if not is_small(v) or v.groups < VL or 2 * v.Q > VL or v.H * v.W > 1024 or v.padding[0] < 0 or v.padding[1] < 0:
        return False
    lay_turned(v, j)
    return j.n_frame * <Py_ssize_t>sizeof(real) <= TURNED_BYTES


cdef void fetch_planes(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n:
        FETCH_AHEAD(x + i)
        i += 64 // sizeof(real)


cdef void turn_planes(TurnedPlanes* j, const real* x, Py_ssize_t n_channels, real* pixels, real* frame) noexcept nogil:
    """(channels, H, W) to (H, W, channels) within the frame, whose border is zero."""
    cdef Conv* v = &j.conv
    cdef Py_ssize_t h, n = min(v.W, j.n_columns - v.padding[1])
    transpose_to_panel(x, v.H * v.W, n_channels, v.H * v.W, pixels, VL)
    for h in range(min(v.H, j.n_rows - v.padding[0])):
        if n > 0:
            memcpy(frame + ((h + v.padding[0]) * j.n_columns + v.padding[1]) * VL, pixels + h * v.W * VL,
                   n * VL * sizeof(real))


cdef void add_turned(TurnedPlanes* j, const real* frame, const real* g, real* sums) noexcept nogil:
    """One image's part of the 9 sums."""
    cdef Conv* v = &j.conv
    cdef vec[9] here
    cdef vec g_here
    cdef Py_ssize_t p, q, r, s, row = j.n_columns * VL, step = v.stride[1] * VL, once
    cdef const real* at
    for once in range(1 + (frame == NULL)):  # a loop of unknown length, for the reason given in tile.pxi
        for r in range(9):
            here[r] = VZERO
        for p in range(v.P):
            at = frame + p * v.stride[0] * row
            for q in range(v.Q):
                g_here = (<const uvec*>g)[0]
                for r in range(3):
                    for s in range(3):
                        here[3 * r + s] += g_here * (<const uvec*>(at + r * row + s * VL))[0]
                g += VL
                at += step
        for r in range(9):
            (<uvec*>(sums + r * VL))[0] = (<uvec*>(sums + r * VL))[0] + here[r]


cdef void correlate_turned(TurnedPlanes* j, const real* frame, const real* w, vec bias, real* y) noexcept nogil:
    """One image's outputs, (P, Q, channels), by weights (9, channels)."""
    cdef Conv* v = &j.conv
    cdef vec[9] w_k
    cdef vec total
    cdef Py_ssize_t p, q, r, s, row = j.n_columns * VL, step = v.stride[1] * VL
    cdef const real* at
    for r in range(9):
        w_k[r] = (<const uvec*>(w + r * VL))[0]
    for p in range(v.P):
        at = frame + p * v.stride[0] * row
        for q in range(v.Q):
            total = bias
            for r in range(3):
                for s in range(3):
                    total += w_k[3 * r + s] * (<const uvec*>(at + r * row + s * VL))[0]
            if j.relu:
                total = VANDNOT(total, VLESS0(total))
            (<uvec*>y)[0] = total
            y += VL
            at += step


cdef void turned_planes_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """A share of the vectors of channels."""
    cdef TurnedPlanes* j = <TurnedPlanes*>job
    cdef Conv* v = &j.conv
    cdef real* frame = j.scratch + share * j.n_scratch
    cdef real* pixels = frame + j.n_frame
    cdef vec[9] taps
    cdef vec bias = VZERO
    cdef Py_ssize_t n_blocks = ceil_div(v.groups, VL), block, channel, n, image, plane, i
    cdef Py_ssize_t x_plane = v.H * v.W, y_plane = v.P * v.Q
    memset(frame, 0, j.n_frame * sizeof(real))
    for block in range(start_of(share, n_shares, n_blocks), start_of(share + 1, n_shares, n_blocks)):
        channel = block * VL
        n = min(v.groups - channel, VL)
        for i in range(9):
            taps[i] = VZERO
        if j.g == NULL:
            if VL > 9:
                transpose_narrow(j.w + channel * 9, 9, n, 9, <real*>taps, VL)
            else:
                transpose_to_panel(j.w + channel * 9, 9, n, 9, <real*>taps, VL)
            if j.bias != NULL:
                bias = VLOADN(j.bias + channel, n)
        for image in range(v.N):
            plane = image * v.groups + channel
            if image + 1 < v.N:
                fetch_planes(j.x + (plane + v.groups) * x_plane, n * x_plane)
                if j.g != NULL:
                    fetch_planes(j.g + (plane + v.groups) * y_plane, n * y_plane)
            turn_planes(j, j.x + plane * x_plane, n, pixels, frame)
            if j.g != NULL:
                transpose_to_panel(j.g + plane * y_plane, y_plane, n, y_plane, pixels, VL)
                add_turned(j, frame, pixels, <real*>taps)
            else:
                correlate_turned(j, frame, <const real*>taps, bias, pixels)
                transpose_from_panel(pixels, VL, y_plane, n, j.y + plane * y_plane, y_plane)
        if j.g != NULL:
            transpose_from_panel(<const real*>taps, VL, 9, n, j.y + channel * 9, 9)


cdef int run_turned(TurnedPlanes* j) noexcept nogil:
    """-1 where there is no memory for the frames."""
    cdef Py_ssize_t n_shares = shares_of(plane_flop(&j.conv), ceil_div(j.conv.groups, VL))
    cdef void* memory = take_scratch(n_shares * j.n_scratch * sizeof(real) + 64)
    if memory == NULL:
        return -1
    j.scratch = <real*>on_a_line(memory)
    run(turned_planes_worker, j, n_shares)
    give_scratch(memory)
    return 0


cdef int depthwise_forward(Conv* conv, const real* x, const real* w, const real* bias, bint relu,
                           real* y) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef TurnedPlanes turned
    if not turns_planes(conv, &turned):
        return correlate_planes(conv, x, w, bias, relu, y)
    turned.x = x
    turned.w = w
    turned.bias = bias
    turned.relu = relu
    turned.g = NULL
    turned.y = y
    return run_turned(&turned)


cdef int depthwise_backward_weight(Conv* conv, const real* g, const real* x, real* w_grad) noexcept nogil:
    """-1 where there is no memory for the sums."""
    cdef Planes j
    cdef TurnedPlanes turned
    cdef Py_ssize_t n_shares = shares_of(plane_flop(conv), conv.groups)
    cdef void* memory
    if turns_planes(conv, &turned):
        turned.x = x
        turned.g = g
        turned.y = w_grad
        return run_turned(&turned)
    j.conv = conv[0]
    j.x = x
    j.g = g
    j.y = w_grad
    memory = lay_planes(&j, n_shares * CHANNELS_AT_ONCE * conv.R * conv.S * VL)
    if memory == NULL:
        return -1
    run(plane_weights_worker, &j, n_shares)
    give_scratch(memory)
    return 0
