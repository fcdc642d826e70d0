# Convolution without unfolding: where each tap and each output pixel lies in a framed image is worked out once a call,
# as tables of offsets, and the tiles read the image through them.
#
# A frame is a copy of one image that has the padding around it. Where the stride along a row is s > 1, each row of it
# holds the columns 0, s, 2s, ... first, then 1, s + 1, ...: so neighbouring outputs read neighbouring numbers whatever
# the stride.

# Scratch comes from the pool, like results: packed weights can be megabytes, and malloc would take fresh pages for them
# in every call.


cdef inline void* take_scratch(size_t n_bytes) noexcept nogil:
    return pool_malloc(NULL, n_bytes)


cdef inline void give_scratch(void* memory) noexcept nogil:
    pool_free(NULL, memory, 0)


cdef struct Conv:
    # One group of channels: C in, O out.
    Py_ssize_t N, C, H, W, O, R, S, P, Q, groups
    Py_ssize_t[2] stride
    Py_ssize_t[2] padding
    Py_ssize_t[2] dilation

cdef struct Correlation:
    # M output planes of rows × columns pixels: y[m][i][j] = bias[m] + Σₖ w[m][k] · frame[taps[k] + start + i·row + j]
    Py_ssize_t M, K, rows, columns, start, row
    bint channels_in_lanes
    Py_ssize_t n_lanes    # pixels of a vector that count
    Py_ssize_t n_vectors  # vectors of pixels, where pixels are in the lanes
    const real* w         # (M, K), or in panels (K, 3 vectors) of M where channels are in the lanes
    Py_ssize_t* taps
    Py_ssize_t* x_at      # of each vector, or of each pixel where channels are in the lanes
    Py_ssize_t* y_at

cdef struct Frame:
    Py_ssize_t row, plane, size  # pitches; size with the vector that the last load may read past the end
    bint needed


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t up(Py_ssize_t n) noexcept nogil:
    """n rounded up to whole vectors."""
    return ceil_div(n, VL) * VL


cdef inline double use_of_lanes(Py_ssize_t n) noexcept nogil:
    return <double>n / up(n)


cdef bint prefers_channels(Py_ssize_t M, Py_ssize_t K, Py_ssize_t columns, bint strided) noexcept nogil:
    """Whether channels in the lanes are faster than pixels, for M planes of sums over K numbers.

    Shares of the multipliers' peak as measured: how full the lanes are; a single vector of channels leaves them
    waiting; storing its results costs channels as much as 12 more terms; splitting a frame costs pixels a fifth.
    """
    cdef double channels = use_of_lanes(M) * (0.65 if M <= VL else 1.0) * K / (K + 12.0)
    return channels > use_of_lanes(columns) * (0.75 if strided else 0.95)


cdef Py_ssize_t pixel_table_sizes(Correlation* c) noexcept nogil:
    """The same with pixels in the lanes."""
    c.channels_in_lanes = False
    c.n_lanes = c.columns if c.columns < VL else VL
    c.n_vectors = c.rows * ceil_div(c.columns, VL)
    return 2 * c.n_vectors


cdef Py_ssize_t table_sizes(Correlation* c) noexcept nogil:
    """How many offsets the tables of a correlation need, the taps not counted. Settles what is in the lanes."""
    cdef Py_ssize_t n = pixel_table_sizes(c)
    c.channels_in_lanes = prefers_channels(c.M, c.K, c.columns, False)
    return c.rows * c.columns if c.channels_in_lanes else n


cdef void fill_tables(Correlation* c, Py_ssize_t* tables) noexcept nogil:
    cdef Py_ssize_t i, j, column, at = 0
    c.x_at = tables
    c.y_at = tables + c.n_vectors
    if c.channels_in_lanes:
        for i in range(c.rows):
            for j in range(c.columns):
                c.x_at[at] = c.start + i * c.row + j
                at += 1
        return
    for i in range(c.rows):
        for j in range(ceil_div(c.columns, VL)):
            # The last vector of a row ends with the row: it overlaps the one before, rather than being cut.
            column = j * VL
            if column + VL > c.columns and c.columns >= VL:
                column = c.columns - VL
            c.x_at[at] = c.start + i * c.row + column
            c.y_at[at] = i * c.columns + column
            at += 1


cdef Py_ssize_t weight_size(Correlation* c) noexcept nogil:
    """Numbers that the weights take, as the tiles read them."""
    return up(c.M) * c.K if c.channels_in_lanes else c.M * c.K


cdef void pack_weights(Correlation* c, const real* w_mk, real* packed) noexcept nogil:
    """(M, K) to panels of channels, one after the other."""
    cdef Py_ssize_t m = 0, n
    cdef int n_vectors
    while m < c.M:
        n_vectors = vectors_in(c.M - m)
        n = c.M - m if c.M - m < n_vectors * VL else n_vectors * VL
        transpose_to_panel(w_mk + m * c.K, c.K, n, c.K, packed + m * c.K, n_vectors * VL)
        m += n


cdef inline void balanced(Py_ssize_t n, Py_ssize_t* size, Py_ssize_t* n_larger, Py_ssize_t* n_blocks) noexcept nogil:
    """Rows in blocks of equal size, or one larger: 10 as 5 + 5 and not as 8 + 2."""
    n_blocks[0] = ceil_div(n, ROWS)
    size[0] = n // n_blocks[0]
    n_larger[0] = n % n_blocks[0]


cdef void correlate_pixels(Correlation* c, const real* frame, const real* bias, bint relu, real* y,
                           Py_ssize_t y_plane) noexcept nogil:
    cdef Py_ssize_t v = 0, size, n_larger, n_blocks, m
    cdef int n
    balanced(c.M, &size, &n_larger, &n_blocks)
    m = n_larger * (size + 1)
    while v < c.n_vectors:
        # Four vectors as 2 + 2: a single one leaves the multipliers idle.
        n = <int>(2 if c.n_vectors - v == 4 else min(3, c.n_vectors - v))
        if n_larger:
            pixel_tiles(pixel_tile, <int>(size + 1), n, c.K, c.w, c.K, frame, c.taps, c.x_at + v, bias, relu, y,
                        y_plane, c.y_at + v, c.n_lanes, n_larger)
        pixel_tiles(pixel_tile, <int>size, n, c.K, c.w + m * c.K, c.K, frame, c.taps, c.x_at + v,
                    after(bias, m), relu, y + m * y_plane, y_plane, c.y_at + v, c.n_lanes, n_blocks - n_larger)
        v += n


cdef void gather_rows(Py_ssize_t n_rows, int n_vectors, Py_ssize_t K, const real* x, const Py_ssize_t* x_row,
                      const Py_ssize_t* x_column, const real* b, const real* bias, real* c,
                      bint accumulate) noexcept nogil:
    """All rows of a channel tile; b and c are panels n_vectors wide."""
    cdef Py_ssize_t size, n_larger, n_blocks, i, width = n_vectors * VL
    balanced(n_rows, &size, &n_larger, &n_blocks)
    i = n_larger * (size + 1)
    if n_larger:
        channel_tiles(channel_tile, <int>(size + 1), n_vectors, K, x, x_row, x_column, b, width, bias, c, width,
                      accumulate, n_larger)
    channel_tiles(channel_tile, <int>size, n_vectors, K, x, x_row + i, x_column, b, width, bias, c + i * width, width,
                  accumulate, n_blocks - n_larger)


cdef void correlate_channels(Correlation* c, const real* frame, const real* bias, real* y, Py_ssize_t y_plane,
                             real* panel) noexcept nogil:
    """`panel` takes all pixels of one panel of channels. `bias` has whole vectors of entries."""
    cdef Py_ssize_t m = 0, n, n_pixels = c.rows * c.columns
    cdef int n_vectors
    while m < c.M:
        n_vectors = vectors_in(c.M - m)
        n = c.M - m if c.M - m < n_vectors * VL else n_vectors * VL
        gather_rows(n_pixels, n_vectors, c.K, frame, c.x_at, c.taps, c.w + m * c.K, after(bias, m),
                    panel, False)
        transpose_from_panel(panel, n_vectors * VL, n_pixels, n, y + m * y_plane, y_plane)
        m += n


cdef Py_ssize_t panel_size(Correlation* c) noexcept nogil:
    return c.rows * c.columns * PANEL if c.channels_in_lanes else 0


cdef inline void correlate(Correlation* c, const real* frame, const real* bias, real* y, Py_ssize_t y_plane,
                           real* panel) noexcept nogil:
    if c.M == 0 or c.rows == 0 or c.columns == 0:
        return
    if c.channels_in_lanes:
        correlate_channels(c, frame, bias, y, y_plane, panel)
    else:
        correlate_pixels(c, frame, bias, False, y, y_plane)


cdef void flatten_pointwise(Conv* v) noexcept nogil:
    """A 1 × 1 kernel without stride or padding sees an image as one row: no vector is cut at the image's border."""
    if v.R == 1 and v.S == 1 and v.stride[0] == 1 and v.stride[1] == 1 and v.padding[0] == 0 and v.padding[1] == 0:
        v.W *= v.H
        v.Q *= v.P
        v.H = v.P = 1


cdef void frame_of_input(Conv* v, Frame* f) noexcept nogil:
    cdef Py_ssize_t columns = ceil_div(v.W + 2 * v.padding[1], v.stride[1])
    f.needed = v.padding[0] > 0 or v.padding[1] > 0 or v.stride[1] > 1
    f.row = v.stride[1] * columns if f.needed else v.W
    f.plane = f.row * (v.H + 2 * v.padding[0])
    f.size = v.C * f.plane + VL


cdef inline bint too_large(Frame* f, Py_ssize_t planes, Py_ssize_t rows) noexcept nogil:
    """Whether the sizes of a frame might overflow. No machine has this much memory."""
    return <double>planes * <double>rows * <double>f.row > 1e15


cdef void forward_plan(Conv* v, Frame* f, Correlation* c) noexcept nogil:
    c.M = v.O
    c.K = v.C * v.R * v.S
    c.rows = v.P
    c.columns = v.Q
    c.start = 0
    c.row = f.row * v.stride[0]


cdef void forward_taps(Conv* v, Frame* f, Py_ssize_t* taps) noexcept nogil:
    cdef Py_ssize_t c, r, s, at = 0, column
    for c in range(v.C):
        for r in range(v.R):
            for s in range(v.S):
                column = s * v.dilation[1]
                taps[at] = c * f.plane + r * v.dilation[0] * f.row + (
                    (column % v.stride[1]) * (f.row // v.stride[1]) + column // v.stride[1]
                )
                at += 1


cdef void fill_frame(Conv* v, Frame* f, const real* x, real* frame) noexcept nogil:
    """Copies one image into its frame; the frame's border is zero already."""
    cdef Py_ssize_t c, h, phase, j, first, last, n_phases = v.stride[1], columns = f.row // v.stride[1]
    cdef const real* x_row
    cdef real* row
    for c in range(v.C):
        for h in range(v.H):
            x_row = x + (c * v.H + h) * v.W
            row = frame + c * f.plane + (h + v.padding[0]) * f.row
            if n_phases == 1:
                memcpy(row + v.padding[1], x_row, v.W * sizeof(real))
            else:
                for phase in range(n_phases):
                    first = ceil_div(v.padding[1] - phase, n_phases) if v.padding[1] > phase else 0
                    last = ceil_div(v.W + v.padding[1] - phase, n_phases) if v.W + v.padding[1] > phase else 0
                    for j in range(first, last):
                        row[phase * columns + j] = x_row[j * n_phases + phase - v.padding[1]]


cdef inline const real* framed(Conv* v, Frame* f, const real* x, Py_ssize_t n_behind, real* frame) noexcept nogil:
    """One image as the tiles may read it: in its frame, or as it lies where no vector reads past the end of the array.

    `n_behind` numbers of the array lie behind the image. What a vector reads there is not stored.
    """
    if f.needed:
        fill_frame(v, f, x, frame)
        return frame
    if n_behind < VL and v.Q < VL:
        memcpy(frame, x, v.C * v.H * v.W * sizeof(real))
        return frame
    return x
