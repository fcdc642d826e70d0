# The weights of a convolution with channels in the lanes (conv_channels.pxi), turned into panels; and the convolution
# whose weights are so large that packing them all first would mean to write and read memory twice.

cdef void transpose_narrow(const real* source, Py_ssize_t source_row, Py_ssize_t rows, Py_ssize_t columns, real* target,
                           Py_ssize_t target_row) noexcept nogil:
    """`transpose_to_panel` for fewer columns than a vector has lanes. (512 × 9 numbers, 512 times: 0.4 ms, and 4 ms
    one by one.)"""
    cdef vec[VL] square
    cdef vec[VL] turned
    cdef Py_ssize_t r = 0, i, last_row
    while r < rows:
        last_row = min(rows - 1 - r, VL - 1)
        for i in range(VL):
            square[i] = VLOADN(source + (r + min(i, last_row)) * source_row, columns)
        transpose_square(<const real*>square, VL, VL, <real*>turned, VL)
        for i in range(columns):
            (<uvec*>(target + i * target_row + r))[0] = turned[i]
        r += VL


cdef void pack_part(Windows* v, bint back, const real* w, Py_ssize_t m, Py_ssize_t n, Py_ssize_t width,
                     Py_ssize_t channel, Py_ssize_t n_channels, Py_ssize_t n_ahead, real* packed) noexcept nogil:
    """Of one group's weights, (M, channels, taps) or if `back` (channels, M, taps), those of n of M from m on and of so
    many channels: (channels, taps, width). Rows of the latter are asked for so many channels ahead."""
    cdef Py_ssize_t n_taps = v.n_taps, c, i, first, ahead
    if not back:
        if n_channels * n_taps < VL:
            transpose_narrow(w + m * v.K + channel * n_taps, v.K, n, n_channels * n_taps, packed, width)
        else:
            transpose_to_panel(w + m * v.K + channel * n_taps, v.K, n, n_channels * n_taps, packed, width)
        return
    for c in range(channel, channel + n_channels):
        first = (c * v.M + m) * n_taps
        ahead = min(n_ahead, v.n_channels - 1 - c) * v.M * n_taps
        for i in range(ceil_div(n * n_taps * <Py_ssize_t>sizeof(real), 64)):
            FETCH_AHEAD(w + first + ahead + i * (64 // <Py_ssize_t>sizeof(real)))
        if n_taps == 1:
            memcpy(packed, w + first, n * sizeof(real))
            for i in range(n, width):
                packed[i] = 0
        elif n_taps < VL:
            transpose_narrow(w + first, n_taps, n, n_taps, packed, width)
        else:
            transpose_to_panel(w + first, n_taps, n, n_taps, packed, width)
        packed += n_taps * width


cdef void pack_panels(Windows* v, bint back, const real* w, real* packed) noexcept nogil:
    """All of one group's weights, in panels of M one after the other."""
    cdef Py_ssize_t m = 0, width, n
    while m < v.M:
        width = channel_vectors(v.M - m) * VL
        n = min(v.M - m, width)
        pack_part(v, back, w, m, n, width, 0, v.n_channels, 1, packed + m * v.K)
        m += n


cdef void panels_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """A share of the panels, for weights larger than the images: some channels' weights are packed, seen by all images
    and forgotten."""
    cdef Windows* v = <Windows*>job
    cdef Py_ssize_t unit, group, panel, i, m, n, c, width, n_channels, n_at_once, image, chunk
    cdef real* results = v.scratch + share * v.n_scratch
    cdef real* packed = results + v.N * v.n_pixels * PANEL
    cdef int n_vectors
    cdef const real* bias
    cdef const real* x
    for unit in range(start_of(share, n_shares, v.groups * v.n_panels), start_of(share + 1, n_shares,
                                                                                 v.groups * v.n_panels)):
        group = unit // v.n_panels
        m = 0
        for i in range(unit % v.n_panels):
            m += channel_vectors(v.M - m) * VL
        n_vectors = channel_vectors(v.M - m)
        width = n_vectors * VL
        n = min(v.M - m, width)
        n_at_once = channels_at_once(v, n_vectors)
        c = 0
        while c < v.n_channels:
            n_channels = min(n_at_once, v.n_channels - c)
            pack_part(v, v.back, v.w + group * v.M * v.K, m, n, width, c, n_channels, n_channels, packed)
            bias = after(v.bias, group * up(v.M) + m) if c == 0 else NULL
            for image in range(v.N):
                x = v.x + ((image * v.groups + group) * v.n_channels + c) * v.x_plane
                for chunk in range(v.n_chunks):
                    for i in range(v.chunk_regions[chunk], v.chunk_regions[chunk + 1]):
                        windows_of_region(v, &v.regions[i], n_vectors, n_channels, x, packed, bias, c > 0,
                                          v.relu and c + n_channels == v.n_channels,
                                          results + (image * v.n_pixels + v.chunk_pixels[chunk]) * width)
            c += n_at_once
        for image in range(v.N):
            transpose_from_panel(results + image * v.n_pixels * width, width, v.n_pixels, n,
                                 v.y + ((image * v.groups + group) * v.M + m) * v.n_pixels, v.n_pixels)
