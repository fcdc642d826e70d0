# What depthwise convolution sends back to its images. Without a stride it is a convolution of g with the kernel turned
# round. With one, a row h of the image is fed by the taps r with h + padding = p·stride + r·dilation, and so are its
# columns: those with the same remainder are computed next to each other in a vector, and the remainders interleaved.

cdef struct Remainder:
    # The columns h ≡ remainder (mod stride) of an image: h = remainder + q·stride sees g at q + shift of each tap.
    Py_ssize_t n_columns, n_taps
    Py_ssize_t* taps
    Py_ssize_t* shifts
    lanes_t* lanes  # (vector, tap)

cdef struct PlaneGradients:
    Conv conv
    const real* g
    const real* w
    real* x_grad
    Remainder* remainders
    const real** row_pointers  # of each share: the rows of g that a row of the image sees, and their weights
    Py_ssize_t* row_taps       # of each row of the image: how many it sees, and of each the tap and the row of g
    Py_ssize_t n_vectors


cdef inline bint reaches(Py_ssize_t h, Py_ssize_t tap, Py_ssize_t padding, Py_ssize_t stride, Py_ssize_t dilation,
                         Py_ssize_t* p) noexcept nogil:
    """Whether input position h is under this tap of a window, and of which one, if the windows had no ends."""
    cdef Py_ssize_t distance = h + padding - tap * dilation
    # C rounds a division towards zero.
    p[0] = distance // stride if distance >= 0 else -((-distance) // stride)
    return p[0] * stride == distance


cdef inline void store_pairs(vec even, vec odd, real* x_row, Py_ssize_t n) noexcept nogil:
    """even[0], odd[0], even[1], ...: so many of them."""
    if n >= 2 * VL:
        (<uvec*>x_row)[0] = ZIP_LOW(even, odd)
        (<uvec*>(x_row + VL))[0] = ZIP_HIGH(even, odd)
        return
    VSTOREN(x_row, ZIP_LOW(even, odd), min(n, VL))
    if n > VL:
        VSTOREN(x_row + VL, ZIP_HIGH(even, odd), n - VL)


cdef inline void grad_of_row_3x3(
    int n_rows, const real* g_0, const real* w_0, const real* g_1, const real* w_1, Py_ssize_t one, Py_ssize_t first,
    Py_ssize_t second, const lanes_t* lanes_one, const lanes_t* lanes_two, bint odd_is_under_two, Py_ssize_t W,
    real* x_row,
) noexcept nogil:
    """A row of the image under up to two rows of g and of the kernel."""
    cdef vec sum_one, sum_two
    cdef Py_ssize_t q = 0
    while 2 * q < W:
        sum_one = sum_two = VZERO
        if n_rows > 0:
            sum_one += w_0[1] * VLOAD_LANES(g_0 + q + one, lanes_one[0])
            sum_two += w_0[0] * VLOAD_LANES(g_0 + q + first, lanes_two[0])
            sum_two += w_0[2] * VLOAD_LANES(g_0 + q + second, lanes_two[1])
        if n_rows > 1:
            sum_one += w_1[1] * VLOAD_LANES(g_1 + q + one, lanes_one[0])
            sum_two += w_1[0] * VLOAD_LANES(g_1 + q + first, lanes_two[0])
            sum_two += w_1[2] * VLOAD_LANES(g_1 + q + second, lanes_two[1])
        if odd_is_under_two:
            store_pairs(sum_one, sum_two, x_row + 2 * q, W - 2 * q)
        else:
            store_pairs(sum_two, sum_one, x_row + 2 * q, W - 2 * q)
        lanes_one += 1
        lanes_two += 2
        q += VL


cdef void grad_of_plane_3x3(PlaneGradients* j, const real* g, const real* w, real* x_grad) noexcept nogil:
    """A plane under a 3 × 3 kernel with stride 2: every other column is under two taps, the rest under one.

    The same as below, with what is known of the loops and everything in registers: twice as fast.
    """
    cdef Py_ssize_t H = j.conv.H, W = j.conv.W, Q = j.conv.Q, h
    cdef bint odd_is_under_two = j.remainders[1].n_taps == 2
    cdef Remainder* under_one = &j.remainders[not odd_is_under_two]
    cdef Remainder* under_two = &j.remainders[odd_is_under_two]
    cdef Py_ssize_t one = under_one.shifts[0], first = under_two.shifts[0], second = under_two.shifts[1]
    cdef const lanes_t* lanes_one = under_one.lanes
    cdef const lanes_t* lanes_two = under_two.lanes
    cdef const Py_ssize_t* seen = j.row_taps
    cdef const real* g_0
    cdef const real* w_0
    for h in range(H):
        g_0 = g + seen[2] * Q
        w_0 = w + 3 * seen[1]
        if seen[0] == 2:
            grad_of_row_3x3(2, g_0, w_0, g + seen[4] * Q, w + 3 * seen[3], one, first, second, lanes_one, lanes_two,
                            odd_is_under_two, W, x_grad)
        elif seen[0] == 1:
            grad_of_row_3x3(1, g_0, w_0, NULL, NULL, one, first, second, lanes_one, lanes_two, odd_is_under_two, W,
                            x_grad)
        else:
            memset(x_grad, 0, W * sizeof(real))
        seen += 7
        x_grad += W


cdef void grad_of_row(PlaneGradients* j, const real** g_rows, const real** w_rows, Py_ssize_t n_rows,
                      real* x_row) noexcept nogil:
    cdef Conv* v = &j.conv
    cdef Py_ssize_t i, q, b, k, r, l, n_lanes, stride = v.stride[1]
    cdef Remainder* columns
    cdef vec total, even = VZERO
    for i in range(j.n_vectors):
        q = i * VL
        for b in range(stride):
            columns = &j.remainders[b]
            n_lanes = max(min(columns.n_columns - q, VL), 0)
            total = VZERO
            for k in range(columns.n_taps):
                for r in range(n_rows):
                    total += w_rows[r][columns.taps[k]] * VLOAD_LANES(
                        g_rows[r] + q + columns.shifts[k], columns.lanes[i * columns.n_taps + k]
                    )
            if stride == 1:
                VSTOREN(x_row + q, total, n_lanes)
            elif stride == 2 and b == 0:
                even = total
            elif stride == 2:
                store_pairs(even, total, x_row + 2 * q, v.W - 2 * q)
            else:
                for l in range(n_lanes):
                    x_row[(q + l) * stride + b] = (<real*>&total)[l]


cdef void plane_gradients_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef PlaneGradients* j = <PlaneGradients*>job
    cdef Conv* v = &j.conv
    cdef const real** g_rows = j.row_pointers + share * 2 * v.R
    cdef const real** w_rows = g_rows + v.R
    cdef bint small = is_small(v)
    cdef Py_ssize_t plane, h, k, n_rows, channel
    cdef const Py_ssize_t* seen
    cdef real* x_row
    for plane in range(start_of(share, n_shares, v.N * v.groups), start_of(share + 1, n_shares, v.N * v.groups)):
        channel = plane % v.groups
        if plane + 1 < v.N * v.groups:
            fetch_planes(j.g + (plane + 1) * v.P * v.Q, v.P * v.Q)
        if small:
            grad_of_plane_3x3(j, j.g + plane * v.P * v.Q, j.w + channel * 9, j.x_grad + plane * v.H * v.W)
            continue
        for h in range(v.H):
            seen = j.row_taps + h * (2 * v.R + 1)
            n_rows = seen[0]
            for k in range(n_rows):
                w_rows[k] = j.w + (channel * v.R + seen[2 * k + 1]) * v.S
                g_rows[k] = j.g + (plane * v.P + seen[2 * k + 2]) * v.Q
            x_row = j.x_grad + (plane * v.H + h) * v.W
            grad_of_row(j, g_rows, w_rows, n_rows, x_row)


cdef int depthwise_backward_strided(Conv* conv, const real* g, const real* w, real* x_grad) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef PlaneGradients j
    cdef Py_ssize_t b, s, p, i, k, at, stride = conv.stride[1], n_taps = conv.S
    cdef Py_ssize_t n_shares = shares_of(plane_flop(conv), conv.N * conv.groups)
    cdef Py_ssize_t n_pointer_bytes = lines(n_shares * 2 * conv.R, sizeof(void*))
    cdef Py_ssize_t n_remainder_bytes = lines(stride, sizeof(Remainder))
    cdef Py_ssize_t n_row_table = conv.H * (2 * conv.R + 1)
    cdef Py_ssize_t n_table_bytes = lines(2 * stride * n_taps + n_row_table, sizeof(Py_ssize_t))
    cdef Py_ssize_t* seen
    cdef Py_ssize_t* tables
    cdef lanes_t* lanes
    cdef Remainder* columns
    cdef char* memory
    j.n_vectors = ceil_div(ceil_div(conv.W, stride), VL)
    memory = <char*>take_scratch(
        n_pointer_bytes + n_remainder_bytes + n_table_bytes + j.n_vectors * stride * n_taps * sizeof(lanes_t)
    )
    if memory == NULL:
        return -1
    j.conv = conv[0]
    j.g = g
    j.w = w
    j.x_grad = x_grad
    j.row_pointers = <const real**>memory
    j.remainders = <Remainder*>(memory + n_pointer_bytes)
    tables = <Py_ssize_t*>(memory + n_pointer_bytes + n_remainder_bytes)
    lanes = <lanes_t*>(memory + n_pointer_bytes + n_remainder_bytes + n_table_bytes)
    j.row_taps = tables + 2 * stride * n_taps
    memset(j.row_taps, 0, n_row_table * sizeof(Py_ssize_t))
    for i in range(conv.H):
        seen = j.row_taps + i * (2 * conv.R + 1)
        for k in range(conv.R):
            if reaches(i, k, conv.padding[0], conv.stride[0], conv.dilation[0], &p) and 0 <= p < conv.P:
                seen[2 * seen[0] + 1] = k
                seen[2 * seen[0] + 2] = p
                seen[0] += 1
    for b in range(stride):
        columns = &j.remainders[b]
        columns.n_columns = ceil_div(conv.W - b, stride) if b < conv.W else 0
        columns.taps = tables
        columns.shifts = tables + n_taps
        columns.n_taps = 0
        for s in range(n_taps):
            if reaches(b, s, conv.padding[1], stride, conv.dilation[1], &p):
                columns.taps[columns.n_taps] = s
                columns.shifts[columns.n_taps] = p
                columns.n_taps += 1
        columns.lanes = lanes
        for i in range(j.n_vectors):
            for k in range(columns.n_taps):
                at = i * VL + columns.shifts[k]
                p = max(min(min(conv.Q - at, columns.n_columns - i * VL), VL), 0)
                columns.lanes[i * columns.n_taps + k] = LANES_FROM(min(max(-at, 0), p), p)
        tables += 2 * n_taps
        lanes += j.n_vectors * columns.n_taps
    run(plane_gradients_worker, &j, n_shares)
    give_scratch(memory)
    return 0


cdef int depthwise_backward_input(Conv* conv, const real* g, const real* w, real* x_grad) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef Conv turned
    cdef Py_ssize_t channel, k, n_taps = conv.R * conv.S
    cdef real* w_turned
    cdef int status
    if conv.stride[0] > 1 or conv.stride[1] > 1:
        return depthwise_backward_strided(conv, g, w, x_grad)
    turned = conv[0]
    turned.H = conv.P
    turned.W = conv.Q
    turned.P = conv.H
    turned.Q = conv.W
    turned.padding[0] = conv.dilation[0] * (conv.R - 1) - conv.padding[0]
    turned.padding[1] = conv.dilation[1] * (conv.S - 1) - conv.padding[1]
    w_turned = <real*>take_scratch(conv.groups * n_taps * sizeof(real) + 1)
    if w_turned == NULL:
        return -1
    for channel in range(conv.groups):
        for k in range(n_taps):
            w_turned[channel * n_taps + k] = w[channel * n_taps + n_taps - 1 - k]
    status = depthwise_forward(&turned, g, w_turned, NULL, False, x_grad)
    give_scratch(w_turned)
    return status


# What depthwise convolution sends back to its weights: a sum over all images and pixels for each channel, so that the
# channels are what the threads divide, and every sum has its order.

cdef inline void plane_weight_tile(
    int m, int stride, int cut, const real* const* rows, Py_ssize_t at, const Lanes* spans, const real* g,
    Py_ssize_t g_row, int n_lanes, real* sums, Py_ssize_t n_vectors,
) noexcept nogil:
    """What m rows of gradients add to the 9 sums of a 3 × 3 kernel's weights, each a vector of partial sums.

    Of a vector that is `cut`, `n_lanes` count.
    """
    cdef vec[9] here
    cdef vec[7] g_i
    cdef Py_ssize_t v
    cdef int r, s, i
    for i in range(9):
        here[i] = (<uvec*>(sums + i * VL))[0]
    for v in range(n_vectors):
        for i in range(m):
            if cut:
                g_i[i] = VLOADN(g + i * g_row, n_lanes)
            else:
                g_i[i] = (<const uvec*>(g + i * g_row))[0]
        for s in range(3):
            for r in range(3):
                for i in range(m):
                    here[r * 3 + s] += g_i[i] * load_lanes(stride, cut, rows[i * stride + r] + at + s, spans + s)
        at += VL * stride
        g += VL
    for i in range(9):
        (<uvec*>(sums + i * VL))[0] = here[i]


cdef enum:
    CHANNELS_AT_ONCE = 16  # of an image before the next: one channel of each image in turn is one page after the other


cdef void sum_lanes(const real* vectors, Py_ssize_t n, real* sums) noexcept nogil:
    """The sum of the lanes of each of n vectors, VL vectors at a time: 16 sums one by one take four times as long."""
    cdef vec[VL] turned
    cdef vec total
    cdef Py_ssize_t i = 0, k, here
    while i < n:
        here = n - i if n - i < VL else VL
        transpose_square(vectors + i * VL, VL, here - 1, <real*>turned, VL)
        total = turned[0]
        for k in range(1, VL):
            total += turned[k]
        VSTOREN(sums + i, total, here)
        i += VL


cdef void add_plane_weights(Planes* j, const real* x, const real* g, real* sums) noexcept nogil:
    """What one plane adds to its 3 × 3 sums."""
    cdef Conv* v = &j.conv
    cdef PixelColumns* c = &j.columns
    cdef const real* rows[2 * PLANE_ROWS + 1]
    cdef Py_ssize_t p = 0, q
    cdef int m, stride = <int>v.stride[0]
    while p < v.P:
        m = next_band(j, p, x, rows)
        q = 0
        while q < c.n_vectors:
            if c.first_whole <= q < c.last_whole:
                plane_weight_tiles(plane_weight_tile, m, stride, WHOLE, rows, q * VL * stride, c.spans,
                                   g + p * v.Q + q * VL, v.Q, VL, sums, c.last_whole - q)
                q = c.last_whole
            else:
                plane_weight_tiles(plane_weight_tile, m, stride, c.cut, rows, q * VL * stride, c.spans + 3 * q,
                                   g + p * v.Q + q * VL, v.Q,
                                   <int>min(v.Q - q * VL, VL), sums, 1)
                q += 1
        p += m


cdef void add_plane_weights_of_any_kernel(Planes* j, const real* x, const real* g, real* sums) noexcept nogil:
    cdef Conv* v = &j.conv
    cdef Py_ssize_t p, q, r, s, h, n_lanes
    cdef const real* x_row
    cdef real* sums_r
    cdef vec g_q
    for p in range(v.P):
        for r in range(v.R):
            h = p * v.stride[0] + r * v.dilation[0] - v.padding[0]
            if h < 0 or h >= v.H:
                continue
            sums_r = sums + r * v.S * VL
            for q in range(j.columns.n_vectors):
                n_lanes = min(v.Q - q * VL, VL)
                g_q = VLOADN(g + p * v.Q + q * VL, n_lanes)
                x_row = x + h * v.W + q * VL * v.stride[1] - v.padding[1]
                for s in range(v.S):
                    (<uvec*>(sums_r + s * VL))[0] = (<uvec*>(sums_r + s * VL))[0] + g_q * load_any(
                        v.stride[1], x_row + s * v.dilation[1], j.columns.spans + q * v.S + s
                    )


cdef void plane_weights_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Planes* j = <Planes*>job
    cdef Conv* v = &j.conv
    cdef Py_ssize_t first, last, channel, image, plane, following, n_taps = v.R * v.S
    cdef Py_ssize_t end = start_of(share + 1, n_shares, v.groups)
    cdef real* sums = j.sums + share * CHANNELS_AT_ONCE * n_taps * VL
    cdef real* sums_c
    cdef bint small = is_small(v)
    first = start_of(share, n_shares, v.groups)
    while first < end:
        last = min(first + CHANNELS_AT_ONCE, end)
        memset(sums, 0, (last - first) * n_taps * VL * sizeof(real))
        for image in range(v.N):
            for channel in range(first, last):
                plane = image * v.groups + channel
                sums_c = sums + (channel - first) * n_taps * VL
                # The next plane, which is this image's or the next one's. (8 images of 256 × 28 × 28: a fifth of the time.)
                following = plane + 1 if channel + 1 < last else plane + v.groups + first - channel
                if following < v.N * v.groups:
                    fetch_planes(j.x + following * v.H * v.W, v.H * v.W)
                    fetch_planes(j.g + following * v.P * v.Q, v.P * v.Q)
                if small:
                    add_plane_weights(j, j.x + plane * v.H * v.W, j.g + plane * v.P * v.Q, sums_c)
                else:
                    add_plane_weights_of_any_kernel(j, j.x + plane * v.H * v.W, j.g + plane * v.P * v.Q, sums_c)
        sum_lanes(sums, (last - first) * n_taps, j.y + first * n_taps)
        first = last
