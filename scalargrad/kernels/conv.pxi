# conv2d and what it sends back to its input. Both are correlations of frames (conv_plan.pxi), one image after the
# other.

cdef struct ConvJob:
    Conv conv
    Frame frame
    const real* x    # images in
    const real* bias
    bint relu
    real* y          # images out
    Py_ssize_t n_correlations 
    Correlation* correlations
    Py_ssize_t n_column_phases
    Py_ssize_t weights_per_group
    char* scratch
    Py_ssize_t n_scratch_bytes, n_frame_bytes, n_panel_bytes


cdef void conv2d_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef ConvJob* j = <ConvJob*>job
    cdef Conv* v = &j.conv
    cdef Correlation c = j.correlations[0]
    cdef real* frame = <real*>(j.scratch + share * j.n_scratch_bytes)
    cdef Py_ssize_t image, group, at, n_images = v.N * v.groups, image_size = v.C * v.H * v.W
    cdef const real* w = c.w
    cdef const real* seen
    memset(frame, 0, j.n_frame_bytes)
    for image in range(start_of(share, n_shares, v.N), start_of(share + 1, n_shares, v.N)):
        for group in range(v.groups):
            at = image * v.groups + group
            seen = framed(v, &j.frame, j.x + at * image_size, (n_images - 1 - at) * image_size, frame)
            c.w = w + group * j.weights_per_group
            correlate_pixels(&c, seen, after(j.bias, group * v.O), j.relu, j.y + at * v.O * v.P * v.Q, v.P * v.Q)


cdef int conv2d_forward(Conv* conv, const real* x, const real* w, const real* bias, bint relu,
                        real* y) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef ConvJob j
    cdef Correlation c
    cdef Py_ssize_t n_tables, n_shares, n_table_bytes
    cdef void* memory
    cdef char* at
    if conv.N == 0 or conv.O == 0:
        return 0
    if is_depthwise(conv):
        return depthwise_forward(conv, x, w, bias, relu, y)
    j.conv = conv[0]
    flatten_pointwise(&j.conv)
    if prefers_channels(conv.O, conv.C * conv.R * conv.S, j.conv.Q, conv.stride[1] > 1):
        return convolve_by_channels(conv, False, x, w, bias, relu, y)
    conv = &j.conv
    frame_of_input(conv, &j.frame)
    if too_large(&j.frame, conv.C, conv.H + 2 * conv.padding[0]):
        return -1
    forward_plan(conv, &j.frame, &c)
    n_tables = pixel_table_sizes(&c)
    j.weights_per_group = c.M * c.K
    n_shares = shares_of(2.0 * conv.N * conv.groups * c.M * c.K * c.rows * c.columns, conv.N)
    n_table_bytes = lines(n_tables + c.K, sizeof(Py_ssize_t))
    j.n_frame_bytes = lines(j.frame.size, sizeof(real)) if j.frame.needed or conv.Q < VL else 0
    j.n_scratch_bytes = j.n_frame_bytes
    memory = take_scratch(n_table_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    c.taps = <Py_ssize_t*>at
    forward_taps(conv, &j.frame, c.taps)
    fill_tables(&c, c.taps + c.K)
    c.w = w
    j.bias = bias
    j.relu = relu
    j.scratch = at + n_table_bytes
    j.x = x
    j.y = y
    j.n_correlations = 1
    j.correlations = &c
    run(conv2d_worker, &j, n_shares)
    give_scratch(memory)
    return 0


# The gradient of the input at row h sums w[r]·g[p] over the taps r and outputs p with h + padding = p·stride +
# r·dilation. The rows h, h + stride, h + 2·stride, ... use the taps with r·dilation ≡ h + padding (mod stride). For
# those p = q − m, with q = (h + padding) // stride and m = (r·dilation) // stride: a correlation of stride 1. Likewise
# along columns. Each pair of a first row and a first column is one correlation; without a stride there is one in all.

cdef Py_ssize_t taps_of_phase(Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t dilation,
                              Py_ssize_t phase) noexcept nogil:
    cdef Py_ssize_t r, n = 0
    for r in range(kernel):
        if (r * dilation) % stride == phase:
            n += 1
    return n


cdef void input_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef ConvJob* j = <ConvJob*>job
    cdef Conv* v = &j.conv
    cdef Frame* f = &j.frame
    cdef Correlation c
    cdef real* frame = <real*>(j.scratch + share * j.n_scratch_bytes)
    cdef real* panel = <real*>(j.scratch + share * j.n_scratch_bytes + j.n_frame_bytes)
    cdef real* dense = <real*>(j.scratch + share * j.n_scratch_bytes + j.n_frame_bytes + j.n_panel_bytes)
    cdef Py_ssize_t image, group, at, o, p, i, channel, q, column, first_row, first_column
    cdef Py_ssize_t top = ((v.R - 1) * v.dilation[0]) // v.stride[0], left = ((v.S - 1) * v.dilation[1]) // v.stride[1]
    cdef const real* g
    cdef real* x_grad
    cdef real* row
    memset(frame, 0, j.n_frame_bytes)
    for image in range(start_of(share, n_shares, v.N), start_of(share + 1, n_shares, v.N)):
        for group in range(v.groups):
            at = image * v.groups + group
            g = j.x + at * v.O * v.P * v.Q
            x_grad = j.y + at * v.C * v.H * v.W
            for o in range(v.O):
                for p in range(v.P):
                    memcpy(frame + o * f.plane + (p + top) * f.row + left, g + (o * v.P + p) * v.Q, v.Q * sizeof(real))
            for i in range(j.n_correlations):
                c = j.correlations[i]
                c.w += group * j.weights_per_group
                if v.stride[0] == 1 and v.stride[1] == 1:
                    correlate(&c, frame, NULL, x_grad, v.H * v.W, panel)
                    continue
                correlate(&c, frame, NULL, dense, c.rows * c.columns, panel)
                first_row = i // j.n_column_phases
                first_column = i % j.n_column_phases
                for channel in range(v.C):
                    for q in range(c.rows):
                        row = x_grad + (channel * v.H + first_row + q * v.stride[0]) * v.W + first_column
                        for column in range(c.columns):
                            row[column * v.stride[1]] = dense[(channel * c.rows + q) * c.columns + column]


cdef void input_grad_weights(Conv* v, Frame* f, Correlation* c, Py_ssize_t first_row, Py_ssize_t first_column,
                             const real* w, real* w_ck) noexcept nogil:
    """One group's weights as (C, K), K over the output channels and the taps of a phase; and where those taps lie."""
    cdef Py_ssize_t o, r, s, channel, k, back, tap = 0
    cdef Py_ssize_t row_phase = (first_row + v.padding[0]) % v.stride[0]
    cdef Py_ssize_t column_phase = (first_column + v.padding[1]) % v.stride[1]
    cdef Py_ssize_t n_taps = (taps_of_phase(v.R, v.stride[0], v.dilation[0], row_phase)
                              * taps_of_phase(v.S, v.stride[1], v.dilation[1], column_phase))
    for r in range(v.R):
        if (r * v.dilation[0]) % v.stride[0] != row_phase:
            continue
        for s in range(v.S):
            if (s * v.dilation[1]) % v.stride[1] != column_phase:
                continue
            # Divisions stay out here: inside they took a third of the time of a small image's gradient.
            back = ((r * v.dilation[0]) // v.stride[0]) * f.row + (s * v.dilation[1]) // v.stride[1]
            for o in range(v.O):
                k = o * n_taps + tap
                c.taps[k] = o * f.plane - back
                for channel in range(v.C):
                    w_ck[channel * c.K + k] = w[((o * v.C + channel) * v.R + r) * v.S + s]
            tap += 1


cdef int conv2d_backward_input(Conv* conv, const real* g, const real* w, real* x_grad) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef ConvJob j
    cdef Conv* v
    cdef Correlation* c
    cdef Frame* f = &j.frame
    cdef Py_ssize_t top, left, n_frame_rows, n_row_phases, i, h, column, group, n_shares
    cdef Py_ssize_t n_tables = 0, n_weights = 0, n_loose = 0, n_panel = 0, n_dense = 0
    cdef Py_ssize_t n_table_bytes, n_weight_bytes, n_loose_bytes
    cdef void* memory
    cdef char* at
    cdef Py_ssize_t* tables
    cdef real* weights
    cdef real* loose
    cdef real* packed
    if conv.N == 0 or conv.C == 0 or conv.H == 0 or conv.W == 0:
        return 0
    if is_depthwise(conv):
        return depthwise_backward_input(conv, g, w, x_grad)
    j.conv = conv[0]
    v = &j.conv
    flatten_pointwise(v)
    if prefers_channels(v.C, v.O * v.R * v.S, v.W, v.stride[1] > 1):
        return convolve_by_channels(conv, True, g, w, NULL, False, x_grad)
    top = ((v.R - 1) * v.dilation[0]) // v.stride[0]
    left = ((v.S - 1) * v.dilation[1]) // v.stride[1]
    f.needed = True
    f.row = max(v.Q, (v.W - 1 + v.padding[1]) // v.stride[1] + 1) + left
    n_frame_rows = max(v.P, (v.H - 1 + v.padding[0]) // v.stride[0] + 1) + top
    if too_large(f, v.O, n_frame_rows):
        return -1
    f.plane = f.row * n_frame_rows
    f.size = v.O * f.plane + VL
    n_row_phases = min(v.stride[0], v.H)
    j.n_column_phases = min(v.stride[1], v.W)
    j.n_correlations = n_row_phases * j.n_column_phases
    j.correlations = <Correlation*>take_scratch(j.n_correlations * sizeof(Correlation))
    if j.correlations == NULL:
        return -1
    for i in range(j.n_correlations):
        h = i // j.n_column_phases
        column = i % j.n_column_phases
        c = &j.correlations[i]
        c.M = v.C
        c.K = (v.O * taps_of_phase(v.R, v.stride[0], v.dilation[0], (h + v.padding[0]) % v.stride[0])
               * taps_of_phase(v.S, v.stride[1], v.dilation[1], (column + v.padding[1]) % v.stride[1]))
        c.rows = ceil_div(v.H - h, v.stride[0])
        c.columns = ceil_div(v.W - column, v.stride[1])
        c.row = f.row
        c.start = ((h + v.padding[0]) // v.stride[0] + top) * f.row + (column + v.padding[1]) // v.stride[1] + left
        n_tables += table_sizes(c) + c.K
        n_weights += weight_size(c)
        n_loose = max(n_loose, c.M * c.K)
        n_panel = max(n_panel, panel_size(c))
        n_dense = max(n_dense, c.M * c.rows * c.columns)
    j.weights_per_group = n_weights
    n_shares = shares_of(2.0 * v.N * v.groups * v.O * v.C * v.R * v.S * v.P * v.Q, v.N)
    n_table_bytes = lines(n_tables, sizeof(Py_ssize_t))
    n_weight_bytes = lines(n_weights * v.groups, sizeof(real))
    n_loose_bytes = lines(n_loose, sizeof(real))
    j.n_frame_bytes = lines(f.size, sizeof(real))
    j.n_panel_bytes = lines(n_panel, sizeof(real))
    j.n_scratch_bytes = j.n_frame_bytes + j.n_panel_bytes
    if v.stride[0] > 1 or v.stride[1] > 1:
        j.n_scratch_bytes += lines(n_dense, sizeof(real))
    memory = take_scratch(n_table_bytes + n_weight_bytes + n_loose_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        give_scratch(j.correlations)
        return -1
    at = on_a_line(memory)
    tables = <Py_ssize_t*>at
    weights = <real*>(at + n_table_bytes)
    loose = <real*>(at + n_table_bytes + n_weight_bytes)
    j.scratch = at + n_table_bytes + n_weight_bytes + n_loose_bytes
    for i in range(j.n_correlations):
        c = &j.correlations[i]
        c.taps = tables
        fill_tables(c, tables + c.K)
        tables += table_sizes(c) + c.K
        c.w = weights
        for group in range(v.groups):
            packed = weights + group * n_weights
            input_grad_weights(v, f, c, i // j.n_column_phases, i % j.n_column_phases,
                               w + group * v.O * v.C * v.R * v.S, loose if c.channels_in_lanes else packed)
            if c.channels_in_lanes:
                pack_weights(c, loose, packed)
        weights += weight_size(c)
    j.x = g
    j.y = x_grad
    run(input_grad_worker, &j, n_shares)
    give_scratch(memory)
    give_scratch(j.correlations)
    return 0
