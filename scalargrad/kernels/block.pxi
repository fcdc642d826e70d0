# conv2d, relu and 2 x 2 max pooling in one, forward and back: an image at a time, so that the convolution's output and
# its gradient stay in the cache. They are the largest arrays of a small network, and from some 256 images on its three
# operations one by one wait for memory: the pooled result is a quarter of what one of them writes.
#
# The tiles, plans and tables are those of conv.pxi and conv_weight.pxi, so the results are those of the operations one
# by one: to the last bit forward, to rounding backward, where the images are added up in other chunks.

cdef enum:
    BAND_BYTES = 1 << 18  # of the convolution's output that exists at one time
    # Where images and results are more than this, they come from memory, and small images from ever new pages, where the
    # processor does not fetch ahead by itself.
    FETCH_FROM_BYTES = 1 << 22
    FETCH_TO_BYTES = 1 << 15  # of one image

cdef struct Block:
    Conv conv
    Frame frame
    Correlation plan     # of one band, without the last row and column where no window holds them
    Halving pool
    Py_ssize_t band      # rows of windows
    bint by_windows      # these in the lanes, without a band
    bint by_channels     # or these
    bint fetches         # the next image and the place of its result, ahead
    Winners windows
    const real* w
    Py_ssize_t* window_taps
    const real* x
    const real* bias
    real* y
    u8* offsets
    char* scratch
    Py_ssize_t n_scratch_bytes, n_frame_bytes, n_panel_bytes


cdef inline bint is_worth_fetching(Py_ssize_t n_images, Py_ssize_t image_bytes) noexcept nogil:
    """Whether to fetch the next image and what belongs to it ahead: LeNet's blocks took 1.33 us an image for 1.89, and
    1.64 for 2.26, at batch 4096."""
    return image_bytes <= FETCH_TO_BYTES and n_images * image_bytes >= FETCH_FROM_BYTES


cdef inline void fetch_image(const void* image, Py_ssize_t n_bytes) noexcept nogil:
    cdef Py_ssize_t at = 0
    while at < n_bytes:
        FETCH_AHEAD(<const char*>image + at)
        at += 64


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
        if j.fetches and image + 1 < end:
            fetch_image(j.x + (image + 1) * image_size, image_size * sizeof(real))
            fetch_image(j.y + (image + 1) * y_size, y_size * sizeof(real))
            fetch_image(j.offsets + (image + 1) * y_size, y_size)
        seen = framed(v, &j.frame, j.x + image * image_size, (v.N - 1 - image) * image_size, frame)
        if j.by_windows:
            take_columns_apart(&j.windows, seen, c.row, j.frame.plane, band)
            pool_by_windows(&j.windows, band, j.window_taps, j.w, j.bias, j.y + image * y_size,
                            j.offsets + image * y_size)
            continue
        if j.by_channels:
            pool_by_channels(&j.windows, seen, c.row, c.taps, c.w, j.bias, band, j.y + image * y_size,
                             j.offsets + image * y_size)
            continue
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
    cdef Py_ssize_t o, n_tables, n_band, n_shares, n_table_bytes, n_weight_bytes, n_bias_bytes
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
    j.windows.P = s.P
    j.windows.Q = s.Q
    j.windows.O = v.O
    j.windows.C = v.C
    j.windows.R = v.R
    j.windows.S = v.S
    j.by_windows = fill_lanes(&j.windows) and not c.channels_in_lanes
    j.by_channels = not j.by_windows and not c.channels_in_lanes and fill_lanes_with_channels(&j.windows)
    n_band = v.O * s.plane
    j.fetches = is_worth_fetching(v.N, sizeof(real) * (v.C * v.H * v.W + v.O * s.small_plane))
    if j.by_windows:
        n_band = phases_size(&j.windows)
    elif j.by_channels:
        n_band = channel_windows_size(&j.windows)
    n_shares = shares_of(2.0 * v.N * c.M * c.K * v.P * v.Q, v.N)
    n_table_bytes = lines(n_tables + 3 * c.K, sizeof(Py_ssize_t))
    n_weight_bytes = lines(up(v.O) * c.K, sizeof(real)) if c.channels_in_lanes or j.by_channels else 0
    n_bias_bytes = lines(up(v.O), sizeof(real)) if bias != NULL or j.by_channels else 0
    j.n_frame_bytes = lines(j.frame.size, sizeof(real)) if j.frame.needed or v.Q < VL else 0
    j.n_panel_bytes = lines(panel_size(c), sizeof(real))
    j.n_scratch_bytes = j.n_frame_bytes + j.n_panel_bytes + lines(n_band, sizeof(real))
    memory = take_scratch(n_table_bytes + n_weight_bytes + n_bias_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    c.taps = <Py_ssize_t*>at
    forward_taps(v, &j.frame, c.taps)
    fill_tables(c, c.taps + c.K)
    j.window_taps = c.taps + c.K + n_tables
    fill_window_taps(&j.windows, j.window_taps)
    j.w = w
    at += n_table_bytes
    c.w = w
    if c.channels_in_lanes:
        pack_weights(c, w, <real*>at)
        c.w = <const real*>at
    elif j.by_channels:
        o = 0
        while o < v.O:
            transpose_to_panel(w + o * c.K, c.K, min(v.O - o, VL), c.K, <real*>at + o * c.K, VL)
            o += VL
        c.w = <const real*>at
    at += n_weight_bytes
    j.bias = NULL
    if n_bias_bytes:
        memset(at, 0, n_bias_bytes)
        if bias != NULL:
            memcpy(at, bias, v.O * sizeof(real))
        j.bias = <const real*>at
    j.scratch = at + n_bias_bytes
    j.x = x
    j.y = y
    j.offsets = offsets
    run(block_worker, &j, n_shares)
    give_scratch(memory)
    return 0
