# The gradient of the weights of a layer with many channels: for every tap of every input channel a row of output
# channels, in the lanes, and a sum over all images and pixels. A unit of work is some input channels by a panel of
# output channels, with all of its sums, so that nothing is added up between threads and the bits do not depend on them.
#
# The sum runs over strips of pixels, whose gradients are transposed to be read in a row. Where images are small a strip
# spans several: one image at a time, the 512 × 512 × 3 × 3 sums of 8 images of 7 × 7 were read and written 8 times
# (41 GF/s; 190 in one strip).

cdef enum:
    # Taps at least, if there are as many: transposing and framing are repeated for every unit. (8 images of
    # 256 × 14 × 14, 3 × 3, 256 out: 189 GF/s with 96, 219 with all.)
    ROWS_PER_UNIT = 1024

cdef struct WeightUnits:
    Conv conv
    const real* x
    const real* g
    real* w_grad
    Py_ssize_t n_panels, n_blocks  # of output channels, of input channels
    Py_ssize_t row, plane          # pitches of an image as it is read: framed, if there is padding
    Py_ssize_t channels_per_block, images_per_strip
    Py_ssize_t image               # from an image to the next, as they are read
    Py_ssize_t* taps               # of a block
    Py_ssize_t* pixels             # of the images of a strip
    char* scratch
    Py_ssize_t n_scratch_bytes, n_frame_bytes, n_strip_bytes


cdef void frame_channels(Conv* v, Py_ssize_t n_channels, const real* x, Py_ssize_t row, Py_ssize_t plane,
                         real* frame) noexcept nogil:
    cdef Py_ssize_t c, h
    for c in range(n_channels):
        for h in range(v.H):
            memcpy(frame + c * plane + (h + v.padding[0]) * row + v.padding[1], x + (c * v.H + h) * v.W,
                   v.W * sizeof(real))


cdef void weigh_unit(WeightUnits* j, Py_ssize_t group, Py_ssize_t o, Py_ssize_t n, int n_vectors, Py_ssize_t first,
                     Py_ssize_t n_channels, real* frame, real* strip, real* sums) noexcept nogil:
    """Channels o to o + n out, and n_channels in from `first` on, over all images."""
    cdef Conv* v = &j.conv
    cdef Py_ssize_t n_pixels = v.P * v.Q, width = n_vectors * VL, n_rows = n_channels * v.R * v.S
    cdef Py_ssize_t image = 0, n_images, i, pixel, count, n_in_strip
    cdef const real* seen
    cdef const real* g
    memset(sums, 0, n_rows * width * sizeof(real))
    while image < v.N:
        n_images = min(j.images_per_strip, v.N - image)
        seen = j.x + ((image * v.groups + group) * v.C + first) * v.H * v.W
        g = j.g + ((image * v.groups + group) * v.O + o) * n_pixels
        if j.n_frame_bytes:
            for i in range(n_images):
                frame_channels(v, n_channels, seen + i * v.groups * v.C * v.H * v.W, j.row, j.plane,
                               frame + i * j.image)
            seen = frame
        n_in_strip = n_images * n_pixels
        pixel = 0
        while pixel < n_in_strip:
            count = min(n_in_strip - pixel, PIXELS_PER_STRIP)
            if n_images > 1:
                count = n_in_strip
                for i in range(n_images):
                    transpose_to_panel(g + i * v.groups * v.O * n_pixels, n_pixels, n, n_pixels,
                                       strip + i * n_pixels * width, width)
            else:
                transpose_to_panel(g + pixel, n_pixels, n, count, strip, width)
            gather_rows(n_rows, n_vectors, count, seen, j.taps, j.pixels + pixel, strip, NULL, sums, True)
            pixel += count
        image += n_images


cdef void weight_units_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef WeightUnits* j = <WeightUnits*>job
    cdef Conv* v = &j.conv
    cdef char* scratch = j.scratch + share * j.n_scratch_bytes
    cdef real* sums = <real*>(scratch + j.n_frame_bytes + j.n_strip_bytes)
    cdef Py_ssize_t n_units = v.groups * j.n_panels * j.n_blocks, unit, i, o, n, group, first, n_channels, K
    cdef int n_vectors
    K = v.C * v.R * v.S
    memset(scratch, 0, j.n_frame_bytes)
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        group = unit // (j.n_panels * j.n_blocks)
        o = 0
        for i in range(unit // j.n_blocks % j.n_panels):
            o += panel_vectors(v.O - o) * VL
        n_vectors = panel_vectors(v.O - o)
        n = min(v.O - o, n_vectors * VL)
        first = (unit % j.n_blocks) * j.channels_per_block
        n_channels = min(j.channels_per_block, v.C - first)
        weigh_unit(j, group, o, n, n_vectors, first, n_channels, <real*>scratch,
                   <real*>(scratch + j.n_frame_bytes), sums)
        transpose_from_panel(sums, n_vectors * VL, n_channels * v.R * v.S, n,
                             j.w_grad + (group * v.O + o) * K + first * v.R * v.S, K)


cdef bint weighs_by_channels(Conv* v) noexcept nogil:
    """Whether there are sums enough to divide them among threads, and channels enough to fill the lanes."""
    return v.O > VL and use_of_lanes(v.O) >= 0.75 and v.O * v.C * v.R * v.S >= 4096


cdef int weigh_by_channels(Conv* conv, const real* g, const real* x, real* w_grad) noexcept nogil:
    """-1 where there is no memory for tables and scratch."""
    cdef WeightUnits j
    cdef Conv* v = &j.conv
    cdef Py_ssize_t n_taps = conv.R * conv.S, n_pixels = conv.P * conv.Q, n_shares, n_table_bytes, c, r, s, i, p, q, at
    cdef void* memory
    j.conv = conv[0]
    j.n_panels = count_panels(v.O)
    j.n_blocks = max(1, min(v.C, v.C * n_taps // ROWS_PER_UNIT))
    j.channels_per_block = ceil_div(v.C, j.n_blocks)
    j.n_blocks = ceil_div(v.C, j.channels_per_block)
    j.images_per_strip = max(1, min(v.N, PIXELS_PER_STRIP // n_pixels))
    j.row = v.W + 2 * v.padding[1]
    j.plane = (v.H + 2 * v.padding[0]) * j.row
    if v.padding[0] or v.padding[1]:
        if <double>j.plane * j.channels_per_block * j.images_per_strip > 1e15:
            return -1
        j.image = j.channels_per_block * j.plane
        j.n_frame_bytes = lines(j.images_per_strip * j.image, sizeof(real))
    else:
        j.image = v.groups * v.C * j.plane
        j.n_frame_bytes = 0
    j.n_strip_bytes = lines(max(min(n_pixels, PIXELS_PER_STRIP), j.images_per_strip * n_pixels) * PANEL, sizeof(real))
    j.n_scratch_bytes = j.n_frame_bytes + j.n_strip_bytes + lines(j.channels_per_block * n_taps * PANEL, sizeof(real))
    n_shares = shares_of(2.0 * v.N * v.groups * v.O * v.C * n_taps * n_pixels, v.groups * j.n_panels * j.n_blocks)
    n_table_bytes = lines(j.channels_per_block * n_taps + j.images_per_strip * n_pixels, sizeof(Py_ssize_t))
    memory = take_scratch(n_table_bytes + n_shares * j.n_scratch_bytes + 64)
    if memory == NULL:
        return -1
    j.taps = <Py_ssize_t*>on_a_line(memory)
    j.pixels = j.taps + j.channels_per_block * n_taps
    j.scratch = on_a_line(memory) + n_table_bytes
    at = 0
    for c in range(j.channels_per_block):
        for r in range(v.R):
            for s in range(v.S):
                j.taps[at] = c * j.plane + r * v.dilation[0] * j.row + s * v.dilation[1]
                at += 1
    at = 0
    for i in range(j.images_per_strip):
        for p in range(v.P):
            for q in range(v.Q):
                j.pixels[at] = i * j.image + p * v.stride[0] * j.row + q * v.stride[1]
                at += 1
    j.x = x
    j.g = g
    j.w_grad = w_grad
    run(weight_units_worker, &j, n_shares)
    give_scratch(memory)
    return 0
