# conv2d, relu and 2 x 2 max pooling in one, forward and back: an image at a time, so that the convolution's output and
# its gradient stay in the cache. They are the largest arrays of a small network, and from some 256 images on its three
# operations one by one wait for memory: the pooled result is a quarter of what one of them writes.
#
# The tiles, plans and tables are those of conv.pxi and conv_weight.pxi, so the results are those of the operations one
# by one: to the last bit forward, to rounding backward, where the images are added up in other chunks.

cdef enum:
    BAND_BYTES = 1 << 18         # of the convolution's output that exists at one time
    GRADIENT_BYTES = 1 << 21     # the largest gradient of one image's convolution that is worth keeping in the cache
    WINDOWS_PER_STRIP = 128
    BLOCK_SUMS = 1 << 23         # numbers in all chunks' sums together
    # A chunk of images is worth its sums from here on.
    FLOP_PER_CHUNK = 2500000

cdef struct Block:
    Conv conv
    Frame frame
    Correlation plan     # of one band, without the last row and column where no window holds them
    Halving pool
    Py_ssize_t band      # rows of windows
    const real* x
    const real* bias
    real* y
    u8* offsets
    char* scratch
    Py_ssize_t n_scratch_bytes, n_frame_bytes, n_panel_bytes


cdef void block_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Block* j = <Block*>job
    cdef Conv* v = &j.conv
    cdef Correlation c = j.plan
    cdef Halving s = j.pool
    cdef real* frame = <real*>(j.scratch + share * j.n_scratch_bytes)
    cdef real* panel = <real*>(j.scratch + share * j.n_scratch_bytes + j.n_frame_bytes)
    cdef real* band = <real*>(j.scratch + share * j.n_scratch_bytes + j.n_frame_bytes + j.n_panel_bytes)
    cdef Py_ssize_t image, first, image_size = v.C * v.H * v.W, y_size = v.O * s.small_plane
    cdef Py_ssize_t end = start_of(share + 1, n_shares, v.N)
    cdef const real* seen
    memset(frame, 0, j.n_frame_bytes)
    for image in range(start_of(share, n_shares, v.N), end):
        seen = framed(v, &j.frame, j.x + image * image_size, (v.N - 1 - image) * image_size, frame)
        first = 0
        while first < j.pool.P:
            s.P = min(j.band, j.pool.P - first)
            s.bytes_behind = (end - 1 - image) * y_size
            c.rows = 2 * s.P
            c.n_vectors = c.rows * ceil_div(c.columns, VL)
            correlate(&c, seen + 2 * first * c.row, j.bias, band, s.plane, panel)
            relu_max_pool_two_by_two(&s, band, j.y + image * y_size + first * s.Q,
                                     j.offsets + image * y_size + first * s.Q)
            first += s.P


cdef bint fits_a_block(Conv* v, Py_ssize_t* kernel, Py_ssize_t* stride, Py_ssize_t* padding, Py_ssize_t* dilation,
                       Py_ssize_t P, Py_ssize_t Q) noexcept nogil:
    """Whether convolution and pooling to P x Q have a geometry that is fused."""
    cdef Frame f
    frame_of_input(v, &f)
    return (
        v.groups == 1 and v.stride[0] == 1 and v.stride[1] == 1 and v.dilation[0] == 1 and v.dilation[1] == 1
        and is_two_by_two(kernel, stride, padding, dilation) and P == v.P // 2 and Q == v.Q // 2
        and v.N > 0 and v.C > 0 and v.O > 0 and not too_large(&f, v.C, v.H + 2 * v.padding[0])
    )


cdef int block_forward(Conv* conv, const real* x, const real* w, const real* bias, real* y,
                       u8* offsets) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef Block j
    cdef Conv* v = &j.conv
    cdef Correlation* c = &j.plan
    cdef Halving* s = &j.pool
    cdef Py_ssize_t n_tables, n_shares, n_table_bytes, n_weight_bytes, n_bias_bytes
    cdef void* memory
    cdef char* at
    j.conv = conv[0]
    frame_of_input(v, &j.frame)
    forward_plan(v, &j.frame, c)
    s.n_planes = v.O
    s.P = v.P // 2
    s.Q = v.Q // 2
    s.row = 2 * s.Q
    j.band = max(1, min(s.P, <Py_ssize_t>(BAND_BYTES / (2.0 * v.O * s.row * sizeof(real)))))
    s.H = 2 * j.band
    s.W = s.row
    s.plane = s.H * s.row
    s.small_plane = s.P * s.Q
    c.rows = s.H
    c.columns = s.row
    n_tables = table_sizes(c)
    n_shares = shares_of(2.0 * v.N * c.M * c.K * v.P * v.Q, v.N)
    n_table_bytes = lines(n_tables + c.K, sizeof(Py_ssize_t))
    n_weight_bytes = lines(weight_size(c), sizeof(real)) if c.channels_in_lanes else 0
    n_bias_bytes = lines(up(v.O), sizeof(real)) if bias != NULL else 0
    j.n_frame_bytes = lines(j.frame.size, sizeof(real)) if j.frame.needed or v.Q < VL else 0
    j.n_panel_bytes = lines(panel_size(c), sizeof(real))
    j.n_scratch_bytes = j.n_frame_bytes + j.n_panel_bytes + lines(v.O * s.plane, sizeof(real))
    memory = malloc(n_table_bytes + n_weight_bytes + n_bias_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    c.taps = <Py_ssize_t*>at
    forward_taps(v, &j.frame, c.taps)
    fill_tables(c, c.taps + c.K)
    at += n_table_bytes
    c.w = w
    if c.channels_in_lanes:
        pack_weights(c, w, <real*>at)
        c.w = <const real*>at
    at += n_weight_bytes
    j.bias = NULL
    if bias != NULL:
        memset(at, 0, n_bias_bytes)
        memcpy(at, bias, v.O * sizeof(real))
        j.bias = <const real*>at
    j.scratch = at + n_bias_bytes
    j.x = x
    j.y = y
    j.offsets = offsets
    run(block_worker, &j, n_shares)
    free(memory)
    return 0


cdef struct BlockGrads:
    WeightJob weights     # the plan and the sums of the weights' gradient
    Correlation to_input
    Frame g_frame         # of the gradient of the convolution's output, its border wide enough for `to_input`
    Py_ssize_t g_start    # where in it the gradient starts
    Halving pool
    const u8* offsets
    real* x_grad          # or NULL, if it is not wanted
    bint wants_weight, wants_bias, wants_planes
    Py_ssize_t n_planes_bytes, n_panel_bytes


cdef void add_windows_by_channels(BlockGrads* j, const real* seen, const real* g, const u8* offsets, real* sums,
                                  char* scratch) noexcept nogil:
    """One image's part of the weights' gradient. Only the pooled gradients are transposed, a quarter of all."""
    cdef Correlation* c = &j.weights.plan
    cdef Py_ssize_t n_windows = j.pool.small_plane, O = j.weights.conv.O, first = 0, count, o, n, i, q, width
    cdef real* strip = <real*>scratch
    cdef real* g_panel = strip + 4 * WINDOWS_PER_STRIP * PANEL
    cdef real* number_panel = g_panel + WINDOWS_PER_STRIP * PANEL
    cdef ireal* numbers = <ireal*>(number_panel + WINDOWS_PER_STRIP * PANEL)
    cdef real* at
    cdef vec g_here
    cdef ivec number
    cdef int n_vectors, vector
    while first < n_windows:
        count = min(n_windows - first, WINDOWS_PER_STRIP)
        o = 0
        while o < O:
            n_vectors = vectors_in(O - o)
            width = n_vectors * VL
            n = min(O - o, width)
            for i in range(n):
                for q in range(count):
                    numbers[i * WINDOWS_PER_STRIP + q] = offsets[(o + i) * n_windows + first + q]
            transpose_to_panel(g + o * n_windows + first, n_windows, n, count, g_panel, width)
            # Vectors of numbers travel as vectors of reals do: nothing calculates with them.
            transpose_to_panel(<const real*>numbers, WINDOWS_PER_STRIP, n, count, number_panel, width)
            for q in range(count):
                for vector in range(n_vectors):
                    g_here = (<const uvec*>(g_panel + q * width + vector * VL))[0]
                    number = (<const uivec*>(number_panel + q * width + vector * VL))[0]
                    at = strip + 4 * q * width + vector * VL
                    (<uvec*>at)[0] = VAND(g_here, IEQUAL(number, 0))
                    (<uvec*>(at + width))[0] = VAND(g_here, IEQUAL(number, 1))
                    (<uvec*>(at + 2 * width))[0] = VAND(g_here, IEQUAL(number, 2))
                    (<uvec*>(at + 3 * width))[0] = VAND(g_here, IEQUAL(number, 3))
            gather_rows(c.K, n_vectors, 4 * count, seen, c.taps, c.x_at + 4 * first, strip, NULL, sums + o * c.K, True)
            o += n
        first += count


cdef void add_windows_by_pixels(BlockGrads* j, const real* seen, const real* planes, real* sums) noexcept nogil:
    cdef WeightJob* weights = &j.weights
    cdef Correlation* c = &weights.plan
    cdef Py_ssize_t first = 0, end, whole, cut, o, size, n_larger, n_blocks
    cdef const real* g_o
    cdef real* sums_o
    cdef int n
    balanced(c.K, &size, &n_larger, &n_blocks)
    while first < weights.n_whole + weights.n_cut:
        end = min(first + VECTORS_PER_STRIP, weights.n_whole + weights.n_cut)
        whole = max(min(end, weights.n_whole) - first, 0)
        cut = end - first - whole
        o = 0
        while o < weights.conv.O:
            n = <int>min(3, weights.conv.O - o)
            g_o = planes + j.g_start + o * j.g_frame.plane
            sums_o = sums + o * c.K * VL
            if n_larger:
                tap_tiles(tap_tile, <int>(size + 1), n, whole, cut, weights.n_lanes, seen, c.taps, c.x_at + first, g_o,
                          j.g_frame.plane, c.y_at + first, sums_o, n_larger)
            tap_tiles(tap_tile, <int>size, n, whole, cut, weights.n_lanes, seen, c.taps + n_larger * (size + 1),
                      c.x_at + first, g_o, j.g_frame.plane, c.y_at + first, sums_o + n_larger * (size + 1) * n * VL,
                      n_blocks - n_larger)
            o += n
        first = end


cdef void add_windows_to_bias(Halving* s, const real* g, const u8* offsets, real* sums) noexcept nogil:
    """Per plane a vector of partial sums."""
    cdef Py_ssize_t plane, i
    cdef const real* g_plane
    cdef const u8* row
    cdef vec total
    for plane in range(s.n_planes):
        g_plane = g + plane * s.small_plane
        row = offsets + plane * s.small_plane
        total = (<uvec*>(sums + plane * VL))[0]
        i = 0
        while i + VL <= s.small_plane:
            total += VANDNOT((<const uvec*>(g_plane + i))[0], IEQUAL(FROM_BYTES((<const u8vec*>(row + i))[0]), 4))
            i += VL
        if i < s.small_plane:
            total += VANDNOT(VLOADN(g_plane + i, s.small_plane - i),
                             IEQUAL(FROM_BYTES(LOAD_BYTES(row + i, s.small_plane - i)), 4))
        (<uvec*>(sums + plane * VL))[0] = total


cdef void fill_window_tables(BlockGrads* j, Py_ssize_t* tables) noexcept nogil:
    """Where the pixels lie that the weights' gradient sums over: window by window, or in vectors along the rows."""
    cdef WeightJob* weights = &j.weights
    cdef Correlation* c = &weights.plan
    cdef Py_ssize_t i, q, tap, at = 0, per_row = 2 * j.pool.Q // VL
    c.x_at = tables
    if weights.channels_in_lanes:
        for i in range(j.pool.P):
            for q in range(j.pool.Q):
                for tap in range(4):
                    c.x_at[at] = (2 * i + tap // 2) * c.row + 2 * q + tap % 2
                    at += 1
        return
    c.y_at = tables + weights.n_whole + weights.n_cut
    for i in range(2 * j.pool.P):
        for q in range(per_row):
            c.x_at[at] = i * c.row + q * VL
            c.y_at[at] = i * j.g_frame.row + q * VL
            at += 1
    if weights.n_cut:
        for i in range(2 * j.pool.P):
            c.x_at[at] = i * c.row + per_row * VL
            c.y_at[at] = i * j.g_frame.row + per_row * VL
            at += 1


cdef void block_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef BlockGrads* j = <BlockGrads*>job
    cdef WeightJob* weights = &j.weights
    cdef Conv* v = &weights.conv
    cdef Halving s = j.pool
    cdef char* scratch = weights.scratch + share * weights.n_scratch_bytes
    cdef real* frame = <real*>scratch
    cdef real* planes = <real*>(scratch + weights.n_frame_bytes)
    cdef real* panel = <real*>(scratch + weights.n_frame_bytes + j.n_planes_bytes)
    cdef char* strips = scratch + weights.n_frame_bytes + j.n_planes_bytes + j.n_panel_bytes
    cdef Py_ssize_t chunk, image, image_size = v.C * v.H * v.W, g_size = v.O * s.small_plane
    cdef const real* g
    cdef const u8* offsets
    cdef const real* seen
    cdef real* sums
    memset(frame, 0, weights.n_frame_bytes + j.n_planes_bytes)
    for chunk in range(start_of(share, n_shares, weights.n_chunks), start_of(share + 1, n_shares, weights.n_chunks)):
        sums = weights.sums + chunk * weights.n_sums
        memset(sums, 0, weights.n_sums * sizeof(real))
        for image in range(start_of(chunk, weights.n_chunks, v.N), start_of(chunk + 1, weights.n_chunks, v.N)):
            g = weights.g + image * g_size
            offsets = j.offsets + image * g_size
            s.bytes_behind = (v.N - 1 - image) * g_size
            if j.wants_planes:
                max_pool_grad_two_by_two(&s, g, offsets, planes + j.g_start)
            if j.x_grad != NULL:
                correlate(&j.to_input, planes, NULL, j.x_grad + image * image_size, v.H * v.W, panel)
            if j.wants_bias:
                add_windows_to_bias(&s, g, offsets, sums + weights.n_sums - v.O * VL)
            if j.wants_weight:
                seen = framed(v, &weights.frame, weights.x + image * image_size, VL, frame)
                if weights.channels_in_lanes:
                    add_windows_by_channels(j, seen, g, offsets, sums, strips)
                else:
                    add_windows_by_pixels(j, seen, planes, sums)


cdef void block_input_plan(BlockGrads* j) noexcept nogil:
    """The gradient's frame; and the correlation with it that is the input's gradient, if that is wanted."""
    cdef Conv* v = &j.weights.conv
    cdef Frame* f = &j.g_frame
    cdef Correlation* c = &j.to_input
    cdef Py_ssize_t top = v.R - 1, left = v.S - 1
    f.needed = True
    if j.x_grad == NULL:
        f.row = v.Q
        f.plane = f.row * v.P
        f.size = v.O * f.plane + VL
        j.g_start = 0
        return
    f.row = max(v.Q, v.W + v.padding[1]) + left
    f.plane = f.row * (max(v.P, v.H + v.padding[0]) + top)
    f.size = v.O * f.plane + VL
    j.g_start = top * f.row + left
    c.M = v.C
    c.K = v.O * v.R * v.S
    c.rows = v.H
    c.columns = v.W
    c.row = f.row
    c.start = (v.padding[0] + top) * f.row + v.padding[1] + left


cdef void block_input_weights(Conv* v, Frame* f, Correlation* c, const real* w, real* w_ck, real* packed) noexcept nogil:
    """Weights as (C, O·R·S), packed where channels are in the lanes; and where their taps lie."""
    cdef Py_ssize_t o, r, s, channel, k = 0, RS = v.R * v.S
    for o in range(v.O):
        for r in range(v.R):
            for s in range(v.S):
                c.taps[k] = o * f.plane - r * f.row - s
                k += 1
        for channel in range(v.C):
            for k in range(RS):
                w_ck[channel * c.K + o * RS + k] = w[(o * v.C + channel) * RS + k]
        k = (o + 1) * RS
    c.w = w_ck
    if c.channels_in_lanes:
        pack_weights(c, w_ck, packed)
        c.w = packed


cdef int block_backward(Conv* conv, const real* g, const u8* offsets, const real* x, const real* w, real* x_grad,
                        real* w_grad, real* bias_grad) noexcept nogil:
    """The gradients that are not NULL. -1 where there is no memory for the sums."""
    cdef BlockGrads j
    cdef WeightJob* weights = &j.weights
    cdef Conv* v = &weights.conv
    cdef Correlation* c = &weights.plan
    cdef Halving* s = &j.pool
    cdef Py_ssize_t n_shares, n_table_bytes, n_input_table_bytes = 0, n_input_weight_bytes = 0, n_packed_bytes = 0
    cdef Py_ssize_t n_sum_bytes, n_weight_sums, chunk, i
    cdef double flop
    cdef void* memory
    cdef char* at
    weights.conv = conv[0]
    weights.x = x
    weights.g = g
    j.offsets = offsets
    j.x_grad = x_grad
    j.wants_weight = w_grad != NULL
    j.wants_bias = bias_grad != NULL
    frame_of_input(v, &weights.frame)
    forward_plan(v, &weights.frame, c)
    weights.channels_in_lanes = (
        use_of_lanes(v.O) >= 0.75 * use_of_lanes(v.Q) or v.O * c.K * VL > MAX_VECTOR_SUMS
    )
    j.wants_planes = x_grad != NULL or (j.wants_weight and not weights.channels_in_lanes)
    block_input_plan(&j)
    s.n_planes = v.O
    s.P = v.P // 2
    s.Q = v.Q // 2
    s.H = 2 * s.P
    s.W = 2 * s.Q
    s.row = j.g_frame.row
    s.plane = j.g_frame.plane
    s.small_plane = s.P * s.Q
    weights.n_whole = s.H * (s.W // VL)
    weights.n_lanes = s.W % VL
    weights.n_cut = s.H if weights.n_lanes else 0
    n_weight_sums = 0
    if j.wants_weight:
        n_weight_sums = c.K * (up(v.O) if weights.channels_in_lanes else v.O * VL)
    weights.n_sums = n_weight_sums + (v.O * VL if j.wants_bias else 0)
    flop = 4.0 * v.N * c.M * c.K * v.P * v.Q
    # By the sizes alone: a gradient does not depend on which others are wanted.
    weights.n_chunks = <Py_ssize_t>max(1.0, min(flop / FLOP_PER_CHUNK, <double>MAX_CHUNKS))
    weights.n_chunks = max(1, min(weights.n_chunks, v.N, BLOCK_SUMS // (v.O * VL * (c.K + 1))))
    n_shares = shares_of(flop, weights.n_chunks)
    n_table_bytes = lines(c.K + max(4 * s.small_plane, 2 * (weights.n_whole + weights.n_cut)), sizeof(Py_ssize_t))
    n_sum_bytes = lines(weights.n_chunks * weights.n_sums, sizeof(real))
    weights.n_frame_bytes = lines(weights.frame.size, sizeof(real)) if weights.frame.needed else 0
    j.n_planes_bytes = lines(j.g_frame.size, sizeof(real)) if j.wants_planes else 0
    j.n_panel_bytes = 0
    if x_grad != NULL:
        n_input_table_bytes = lines(table_sizes(&j.to_input) + j.to_input.K, sizeof(Py_ssize_t))
        n_input_weight_bytes = lines(v.C * j.to_input.K, sizeof(real))
        n_packed_bytes = lines(weight_size(&j.to_input), sizeof(real)) if j.to_input.channels_in_lanes else 0
        j.n_panel_bytes = lines(panel_size(&j.to_input), sizeof(real))
    weights.n_scratch_bytes = (
        weights.n_frame_bytes + j.n_planes_bytes + j.n_panel_bytes
        + (lines(7 * WINDOWS_PER_STRIP * PANEL, sizeof(real)) if weights.channels_in_lanes and j.wants_weight else 0)
    )
    memory = malloc(n_table_bytes + n_sum_bytes + n_input_table_bytes + n_input_weight_bytes + n_packed_bytes
                    + n_shares * weights.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    c.taps = <Py_ssize_t*>at
    forward_taps(v, &weights.frame, c.taps)
    fill_window_tables(&j, c.taps + c.K)
    at += n_table_bytes
    weights.sums = <real*>at
    at += n_sum_bytes
    if x_grad != NULL:
        j.to_input.taps = <Py_ssize_t*>at
        fill_tables(&j.to_input, j.to_input.taps + j.to_input.K)
        at += n_input_table_bytes
        block_input_weights(v, &j.g_frame, &j.to_input, w, <real*>at, <real*>(at + n_input_weight_bytes))
        at += n_input_weight_bytes + n_packed_bytes
    weights.scratch = at
    run(block_grads_worker, &j, n_shares)
    for chunk in range(1, weights.n_chunks):
        for i in range(weights.n_sums):
            weights.sums[i] += weights.sums[chunk * weights.n_sums + i]
    if j.wants_weight:
        sums_to_weights(weights, w_grad)
    if j.wants_bias:
        for i in range(v.O):
            bias_grad[i] = VSUM((<const uvec*>(weights.sums + n_weight_sums + i * VL))[0])
    free(memory)
    return 0


cdef bint fits_a_block_gradient(Conv* v) noexcept nogil:
    """Whether the gradient of one image's convolution is small enough to stay in the cache."""
    return (<double>v.O * (v.H + 2 * v.padding[0] + v.R) * (v.W + 2 * v.padding[1] + v.S) * sizeof(real)
            <= GRADIENT_BYTES)
