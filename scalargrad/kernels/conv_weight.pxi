# What conv2d sends back to its weights: for every tap and output channel a sum over all images and pixels. Two ways:
# - channels in the lanes: taps are the rows of the tile, and the sum runs over a strip of pixels whose gradients were
#   transposed to be read in a row;
# - pixels in the lanes, for few channels, which would leave lanes empty: each sum is a vector of partial sums.
#
# The images are divided into chunks, each with a sum of its own, added up in order. Their number depends on the sizes
# alone: so the result does not depend on the number of threads.

cdef enum:
    PIXELS_PER_STRIP = 512  # transposed gradients of a strip and the sums of a panel stay in the first cache
    VECTORS_PER_STRIP = 64
    MAX_CHUNKS = 16
    MAX_VECTOR_SUMS = 1 << 16  # numbers in the partial sums of all taps and channels: what the second cache bears

cdef struct WeightJob:
    Conv conv
    Frame frame
    Correlation plan
    bint channels_in_lanes
    Py_ssize_t n_whole, n_cut, n_lanes  # vectors of an image, where pixels are in the lanes
    const real* x
    const real* g
    Py_ssize_t n_chunks
    real* sums             # (chunk, group, panels of channels, K, channels of the panel, and lanes if these are pixels)
    Py_ssize_t n_sums      # of a chunk
    char* scratch
    Py_ssize_t n_scratch_bytes, n_frame_bytes


cdef void add_image_by_channels(WeightJob* j, const real* seen, const real* g, real* sums, real* strip) noexcept nogil:
    cdef Conv* v = &j.conv
    cdef Py_ssize_t n_pixels = v.P * v.Q, first = 0, count, o, n, K = j.plan.K
    cdef int n_vectors
    while first < n_pixels:
        count = n_pixels - first if n_pixels - first < PIXELS_PER_STRIP else PIXELS_PER_STRIP
        o = 0
        while o < v.O:
            n_vectors = vectors_in(v.O - o)
            n = v.O - o if v.O - o < n_vectors * VL else n_vectors * VL
            transpose_to_panel(g + o * n_pixels + first, n_pixels, n, count, strip, n_vectors * VL)
            gather_rows(K, n_vectors, count, seen, j.plan.taps, j.plan.x_at + first, strip, NULL, sums + o * K, True)
            o += n
        first += count


cdef void add_image_by_pixels(WeightJob* j, const real* seen, const real* g, real* sums) noexcept nogil:
    cdef Conv* v = &j.conv
    cdef Correlation* c = &j.plan
    cdef Py_ssize_t first = 0, end, whole, cut, o, size, n_larger, n_blocks
    cdef const real* g_o
    cdef real* sums_o
    cdef int n
    balanced(c.K, &size, &n_larger, &n_blocks)
    while first < j.n_whole + j.n_cut:
        end = min(first + VECTORS_PER_STRIP, j.n_whole + j.n_cut)
        whole = max(min(end, j.n_whole) - first, 0)
        cut = end - first - whole
        o = 0
        while o < v.O:
            n = <int>min(3, v.O - o)
            g_o = g + o * v.P * v.Q
            sums_o = sums + o * c.K * VL
            if n_larger:
                tap_tiles(tap_tile, <int>(size + 1), n, whole, cut, j.n_lanes, seen, c.taps, c.x_at + first, g_o,
                          v.P * v.Q, c.y_at + first, sums_o, n_larger)
            tap_tiles(tap_tile, <int>size, n, whole, cut, j.n_lanes, seen, c.taps + n_larger * (size + 1),
                      c.x_at + first, g_o, v.P * v.Q, c.y_at + first, sums_o + n_larger * (size + 1) * n * VL,
                      n_blocks - n_larger)
            o += n
        first = end


cdef void fill_pixel_tables(WeightJob* j, Py_ssize_t* tables) noexcept nogil:
    """Whole vectors of all rows first, then what is left of each row."""
    cdef Conv* v = &j.conv
    cdef Correlation* c = &j.plan
    cdef Py_ssize_t i, q, per_row = v.Q // VL, at = 0
    c.x_at = tables
    c.y_at = tables + j.n_whole + j.n_cut
    for i in range(v.P):
        for q in range(per_row):
            c.x_at[at] = i * c.row + q * VL
            c.y_at[at] = i * v.Q + q * VL
            at += 1
    if j.n_cut:
        for i in range(v.P):
            c.x_at[at] = i * c.row + per_row * VL
            c.y_at[at] = i * v.Q + per_row * VL
            at += 1


cdef void sums_to_weights(WeightJob* j, real* w_grad) noexcept nogil:
    """The first chunk's sums, which by now are all, in the order of the weights."""
    cdef Conv* v = &j.conv
    cdef Py_ssize_t K = j.plan.K, group, o, n, k, i
    cdef int n_vectors
    cdef const real* sums
    for group in range(v.groups):
        o = 0
        while o < v.O:
            if j.channels_in_lanes:
                n_vectors = vectors_in(v.O - o)
                n = v.O - o if v.O - o < n_vectors * VL else n_vectors * VL
                transpose_from_panel(j.sums + (group * up(v.O) + o) * K, n_vectors * VL, K, n,
                                     w_grad + (group * v.O + o) * K, K)
            else:
                n = min(3, v.O - o)
                sums = j.sums + (group * v.O + o) * K * VL
                for k in range(K):
                    for i in range(n):
                        w_grad[(group * v.O + o + i) * K + k] = VSUM((<const uvec*>(sums + (k * n + i) * VL))[0])
            o += n


cdef void weight_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef WeightJob* j = <WeightJob*>job
    cdef Conv* v = &j.conv
    cdef real* frame = <real*>(j.scratch + share * j.n_scratch_bytes)
    cdef real* strip = <real*>(j.scratch + share * j.n_scratch_bytes + j.n_frame_bytes)
    cdef Py_ssize_t chunk, image, group, at, group_sums = j.n_sums // v.groups
    cdef real* sums
    cdef const real* seen
    memset(frame, 0, j.n_frame_bytes)
    for chunk in range(start_of(share, n_shares, j.n_chunks), start_of(share + 1, n_shares, j.n_chunks)):
        sums = j.sums + chunk * j.n_sums
        memset(sums, 0, j.n_sums * sizeof(real))
        for image in range(start_of(chunk, j.n_chunks, v.N), start_of(chunk + 1, j.n_chunks, v.N)):
            for group in range(v.groups):
                at = image * v.groups + group
                # Nothing is read past an image here: what is left of a row is read number by number.
                seen = framed(v, &j.frame, j.x + at * v.C * v.H * v.W, VL, frame)
                if j.channels_in_lanes:
                    add_image_by_channels(j, seen, j.g + at * v.O * v.P * v.Q, sums + group * group_sums, strip)
                else:
                    add_image_by_pixels(j, seen, j.g + at * v.O * v.P * v.Q, sums + group * group_sums)


cdef int conv2d_backward_weight(Conv* conv, const real* g, const real* x, real* w_grad) noexcept nogil:
    """-1 where there is no memory for the sums."""
    cdef WeightJob j
    cdef Conv* v = &j.conv
    cdef Correlation* c = &j.plan
    cdef Py_ssize_t n_shares, n_tables, n_table_bytes, n_sum_bytes, chunk, i
    cdef double flop
    cdef void* memory
    cdef char* at
    j.conv = conv[0]
    flatten_pointwise(v)
    if v.O == 0 or v.C == 0 or v.N == 0:
        memset(w_grad, 0, v.groups * v.O * v.C * v.R * v.S * sizeof(real))
        return 0
    if is_depthwise(conv):
        return depthwise_backward_weight(conv, g, x, w_grad)
    if weighs_by_channels(conv):
        return weigh_by_channels(conv, g, x, w_grad)
    frame_of_input(v, &j.frame)
    if too_large(&j.frame, v.C, v.H + 2 * v.padding[0]):
        return -1
    forward_plan(v, &j.frame, c)
    j.channels_in_lanes = use_of_lanes(v.O) >= 0.75 * use_of_lanes(v.Q) or v.O * c.K * VL > MAX_VECTOR_SUMS
    c.channels_in_lanes = j.channels_in_lanes
    c.n_vectors = 0
    j.n_whole = v.P * (v.Q // VL)
    j.n_lanes = v.Q % VL
    j.n_cut = v.P if j.n_lanes else 0
    n_tables = v.P * v.Q if j.channels_in_lanes else 2 * (j.n_whole + j.n_cut)
    flop = 2.0 * v.N * v.groups * c.M * c.K * c.rows * c.columns
    # A chunk is worth its sums from about 5 MFLOP on.
    j.n_chunks = <Py_ssize_t>max(1.0, min(flop / 5e6, <double>MAX_CHUNKS))
    j.n_chunks = min(j.n_chunks, v.N)
    j.n_sums = v.groups * c.K * (up(v.O) if j.channels_in_lanes else v.O * VL)
    n_shares = shares_of(flop, j.n_chunks)
    n_table_bytes = lines(c.K + n_tables, sizeof(Py_ssize_t))
    n_sum_bytes = lines(j.n_chunks * j.n_sums, sizeof(real))
    j.n_frame_bytes = lines(j.frame.size, sizeof(real)) if j.frame.needed else 0
    j.n_scratch_bytes = j.n_frame_bytes + lines(min(v.P * v.Q, PIXELS_PER_STRIP) * PANEL, sizeof(real))
    memory = take_scratch(n_table_bytes + n_sum_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    c.taps = <Py_ssize_t*>at
    forward_taps(v, &j.frame, c.taps)
    if j.channels_in_lanes:
        fill_tables(c, c.taps + c.K)
    else:
        fill_pixel_tables(&j, c.taps + c.K)
    j.sums = <real*>(at + n_table_bytes)
    j.scratch = at + n_table_bytes + n_sum_bytes
    j.x = x
    j.g = g
    run(weight_grad_worker, &j, n_shares)
    for chunk in range(1, j.n_chunks):
        for i in range(j.n_sums):
            j.sums[i] += j.sums[chunk * j.n_sums + i]
    sums_to_weights(&j, w_grad)
    give_scratch(memory)
    return 0
