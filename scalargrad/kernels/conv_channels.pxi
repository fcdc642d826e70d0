# Convolution with channels in the lanes: m output pixels × n vectors of output channels stay in registers, while the
# sum runs over the input's channels and the taps. Pixels are read from the image as it lies, each as a broadcast, so
# that stride, dilation and padding cost nothing: they are in tables.
#
# No zero is multiplied. Pixels near the border see fewer taps: pixels that see the same taps are computed together, as
# one region of the image. Of a 14 × 14 image with a border of 1, a tenth of the products are with the border, and of
# the gradient of a 14 × 14 image without one, a quarter (16 × 256 × 14 × 14, 256 channels out: 159 GF/s with the
# products, 225 without them).
#
# The gradient of the input is of the same form. Its row h sums over the taps r and the outputs p with
# h + padding = p·stride + r·dilation: with a stride, the rows h, h + stride, ... see the same taps.

cdef enum:
    PIXELS_PER_CHUNK = 256  # their results for one panel of channels, 48 KB, stay in the caches until they are stored
    # Weights that stay in the first cache while all pixels of a chunk go by, about so many: for 64 channels of 56 × 56
    # pixels 242 GF/s, and 221 with all weights of a panel at once. Tiles of 8 rows read them half as often as those of
    # 4, and gain by fewer passes (AVX2 with 32 KB: 1 to 2 % slower).
    WEIGHT_BYTES_AT_ONCE = 24 << 10
    WEIGHT_BYTES_FOR_8_ROWS = 32 << 10
    # So many weights stay in the second cache beside the image: all panels of a chunk, and then the next. (16 images of
    # 64 × 56 × 56, 3 × 3, 64 out: 3 % less time.)
    WEIGHT_BYTES_PER_CHUNK = 256 << 10
    # Weights from so many bytes on are packed some at a time, if the results of all images, for one panel, take no more
    # than so many. (The gradient of 512 × 7 × 7, 3 × 3, 512 out: packing all of them first was 43 % of the time.)
    WEIGHT_BYTES_BY_NEED = 1 << 20
    RESULT_BYTES_BY_NEED = 320 << 10

ctypedef void (*window_tile_t)(
    int, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Tap*, const real*, const Py_ssize_t*, const real*, Py_ssize_t,
    Py_ssize_t, const real*, bint, bint, real*, Py_ssize_t, const Py_ssize_t*, Py_ssize_t,
) noexcept nogil

cdef extern from *:
    void window_tiles "WITH_CONSTANT_SIZES" (window_tile_t tile, int m, int n, ...) nogil

cdef struct Windows:
    Py_ssize_t N, groups, M          # channels out of each group
    Py_ssize_t n_channels, x_plane   # what the sum runs over, besides the taps
    Py_ssize_t image_plane           # of a channel, also where channels are taps
    Py_ssize_t n_taps, n_pixels      # in all
    Py_ssize_t K                     # channels × taps
    Py_ssize_t n_panels, n_chunks
    bint back                        # the gradient of the input
    bint packs_by_need               # `w` is not packed
    bint weights_stay                # the panels are the outermost loop
    bint pixels_stay                 # they are the innermost
    bint relu
    const real* x
    const real* w                    # of each group, panels of M one after the other: (n_channels, n_taps, panel)
    const real* bias                 # of each group in whole vectors, or NULL
    real* y
    Tap* taps
    Region* regions
    Py_ssize_t* chunk_regions        # the first region of each chunk, and one past the last
    Py_ssize_t* chunk_pixels
    Py_ssize_t* x_at                 # of each pixel, region after region
    Py_ssize_t* y_at                 # its number within the chunk
    real* scratch
    Py_ssize_t n_scratch


cdef inline void window_tile(
    int m, int n, Py_ssize_t n_channels, Py_ssize_t x_plane, Py_ssize_t n_taps, const Tap* taps, const real* x,
    const Py_ssize_t* x_at, const real* w, Py_ssize_t w_row, Py_ssize_t w_channel, const real* bias, bint accumulate,
    bint relu, real* y, Py_ssize_t y_row, const Py_ssize_t* y_at, Py_ssize_t n_blocks,
) noexcept nogil:
    """n_blocks·m pixels × n vectors of channels.

    y[y_at[i]] = bias + Σ x[channel·x_plane + taps[k].x + x_at[i]] · w[channel][taps[k].weight] over channels and taps.
    """
    cdef vec[24] sums
    cdef vec[3] w_k
    cdef const real* x_i[8]
    cdef const real* w_c
    cdef const real* w_at
    cdef Py_ssize_t c, k, block, column
    cdef int i, j
    cdef real s
    for block in range(n_blocks):
        w_c = w
        for i in range(m):
            x_i[i] = x + x_at[i]
        if bias != NULL:
            for i in range(m):
                for j in range(n):
                    sums[i * n + j] = (<const uvec*>(bias + j * VL))[0]
        elif accumulate:
            for i in range(m):
                for j in range(n):
                    sums[i * n + j] = (<const uvec*>(y + y_at[i] * y_row + j * VL))[0]
        else:
            for i in range(m * n):
                sums[i] = VZERO
        for c in range(n_channels):
            for k in range(n_taps):
                column = c * x_plane + taps[k].x
                w_at = w_c + taps[k].weight * w_row
                for j in range(n):
                    w_k[j] = (<const uvec*>(w_at + j * VL))[0]
                for i in range(m):
                    s = x_i[i][column]
                    for j in range(n):
                        sums[i * n + j] += s * w_k[j]
            w_c += w_channel
        if relu:
            for i in range(m * n):
                sums[i] = VANDNOT(sums[i], VLESS0(sums[i]))
        for i in range(m):
            for j in range(n):
                (<uvec*>(y + y_at[i] * y_row + j * VL))[0] = sums[i * n + j]
        x_at += m
        y_at += m


cdef inline int channel_vectors(Py_ssize_t n_columns) noexcept nogil:
    """Like `vectors_in`, but four vectors as 2 + 2: one alone leaves the multipliers waiting for broadcasts."""
    cdef Py_ssize_t n = ceil_div(n_columns, VL)
    return <int>(2 if n == 4 else min(n, 3))


cdef void lay_regions(Windows* v, Positions* rows, Positions* columns, Py_ssize_t x_row, Py_ssize_t S,
                      Py_ssize_t rows_per_chunk) noexcept nogil:
    cdef Py_ssize_t chunk, a, b, p, q, i, k, first, last, pixel = 0, region = 0, tap = 0
    cdef Region* here
    cdef Py_ssize_t* first_tap = v.chunk_pixels + v.n_chunks + 1  # of each pair of classes
    for a in range(rows.n_classes):
        for b in range(columns.n_classes):
            first_tap[a * columns.n_classes + b] = tap
            for i in range(rows.count[a]):
                for k in range(columns.count[b]):
                    v.taps[tap].x = i * rows.shift * x_row + k * columns.shift
                    v.taps[tap].weight = (
                        (rows.first[a] + i * rows.step) * S + columns.first[b] + k * columns.step
                    )
                    tap += 1
    for chunk in range(v.n_chunks):
        first = chunk * rows_per_chunk
        last = min(first + rows_per_chunk, rows.n)
        v.chunk_regions[chunk] = region
        v.chunk_pixels[chunk] = first * columns.n
        for a in range(rows.n_classes):
            for b in range(columns.n_classes):
                here = &v.regions[region]
                here.first_pixel = pixel
                here.first_tap = first_tap[a * columns.n_classes + b]
                here.n_taps = rows.count[a] * columns.count[b]
                for p in range(first, last):
                    if rows.kind[p] != a:
                        continue
                    for q in range(columns.n):
                        if columns.kind[q] == b:
                            v.x_at[pixel] = rows.at[p] * x_row + columns.at[q]
                            v.y_at[pixel] = (p - first) * columns.n + q
                            pixel += 1
                here.n_pixels = pixel - here.first_pixel
                if here.n_pixels:
                    region += 1
    v.chunk_regions[v.n_chunks] = region
    v.chunk_pixels[v.n_chunks] = rows.n * columns.n


cdef void windows_of_region(Windows* v, Region* region, int n_vectors, Py_ssize_t n_channels,
                            const real* x, const real* w, const real* bias, bint accumulate, bint relu,
                            real* panel) noexcept nogil:
    cdef Py_ssize_t size, n_larger, n_blocks, i, width = n_vectors * VL, n_taps = region.n_taps
    cdef Py_ssize_t w_channel = v.n_taps * width
    cdef const Py_ssize_t* x_at = v.x_at + region.first_pixel
    cdef const Py_ssize_t* y_at = v.y_at + region.first_pixel
    cdef const Tap* taps = v.taps + region.first_tap
    balanced(region.n_pixels, &size, &n_larger, &n_blocks)
    i = n_larger * (size + 1)
    if n_larger:
        window_tiles(window_tile, <int>(size + 1), n_vectors, n_channels, v.x_plane, n_taps, taps, x, x_at, w, width,
                     w_channel, bias, accumulate, relu, panel, width, y_at, n_larger)
    window_tiles(window_tile, <int>size, n_vectors, n_channels, v.x_plane, n_taps, taps, x, x_at + i, w, width,
                 w_channel, bias, accumulate, relu, panel, width, y_at + i, n_blocks - n_larger)


cdef inline Py_ssize_t channels_at_once(Windows* v, Py_ssize_t n_vectors) noexcept nogil:
    """All channels in passes of equal size, since each reads and writes all sums: 64 channels as 32 + 32. (The gradient
    of 16 images of 64 × 56 × 56, 3 × 3: 220 GF/s, and 202 as 21 + 21 + 21 + 1.)"""
    cdef Py_ssize_t n_bytes = v.n_channels * v.n_taps * n_vectors * VL * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t at_once = WEIGHT_BYTES_FOR_8_ROWS if ROWS == 8 else WEIGHT_BYTES_AT_ONCE
    cdef Py_ssize_t n_passes = max(1, (n_bytes + at_once // 2) // at_once)
    return max(1, ceil_div(v.n_channels, n_passes))


cdef void fetch_next_chunk(Windows* v, Py_ssize_t chunk, const real* x, Py_ssize_t n_channels,
                           Py_ssize_t next_image) noexcept nogil:
    """Asks for what the next chunk of pixels will see of these channels, in this image or the next: planes are so far
    apart that the processor does not foresee it. (8 images of 64 × 56 × 56, 3 × 3, 64 out: 4 % less time.)"""
    cdef Py_ssize_t c, i, first, last, plane = v.image_plane, line = 64 // sizeof(real)
    if chunk + 1 < v.n_chunks:
        first = start_of(chunk + 1, v.n_chunks, plane)
        last = start_of(chunk + 2, v.n_chunks, plane)
    else:
        first = next_image
        last = next_image + start_of(1, v.n_chunks, plane) if next_image else 0
    for c in range(n_channels):
        i = first
        while i < last:
            FETCH_AHEAD(x + c * plane + i)
            i += line


cdef void windows_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """A share of the units of work: image, group, chunk of pixels and panel of channels."""
    cdef Windows* v = <Windows*>job
    cdef Py_ssize_t unit, panel, chunk, image, group, i, m, n, n_units = v.N * v.groups * v.n_chunks * v.n_panels
    cdef Py_ssize_t n_left, c, n_channels, n_at_once, next_image = v.groups * v.n_channels * v.x_plane
    cdef int n_vectors
    cdef real* results = v.scratch + share * v.n_scratch
    cdef const real* x
    cdef const real* w
    cdef const real* bias
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        if v.weights_stay:
            chunk = unit % v.n_chunks
            image = unit // v.n_chunks % v.N
            panel = unit // (v.n_chunks * v.N) % v.n_panels
            group = unit // (v.n_chunks * v.N * v.n_panels)
        else:
            chunk = unit % v.n_chunks
            panel = unit // v.n_chunks % v.n_panels
            group = unit // (v.n_chunks * v.n_panels) % v.groups
            image = unit // (v.n_chunks * v.n_panels * v.groups)
            if v.pixels_stay:
                panel = unit % v.n_panels
                chunk = unit // v.n_panels % v.n_chunks
        m = 0
        n_left = v.M
        for i in range(panel):
            m += channel_vectors(n_left) * VL
            n_left = v.M - m
        n_vectors = channel_vectors(n_left)
        n = min(n_left, n_vectors * VL)
        w = v.w + (group * up(v.M) + m) * v.K
        x = v.x + (image * v.groups + group) * v.n_channels * v.x_plane
        n_at_once = channels_at_once(v, n_vectors)
        c = 0
        while c == 0 or c < v.n_channels:
            n_channels = min(n_at_once, v.n_channels - c)
            bias = after(v.bias, group * up(v.M) + m) if c == 0 else NULL
            if panel == 0:
                if v.n_channels == 1:
                    fetch_next_chunk(v, chunk, x, v.x_plane // v.image_plane, next_image if image + 1 < v.N else 0)
                else:
                    fetch_next_chunk(v, chunk, x + c * v.x_plane, n_channels, next_image if image + 1 < v.N else 0)
            for i in range(v.chunk_regions[chunk], v.chunk_regions[chunk + 1]):
                windows_of_region(v, &v.regions[i], n_vectors, n_channels, x + c * v.x_plane,
                                  w + c * v.n_taps * n_vectors * VL, bias, c > 0,
                                  v.relu and c + n_channels == v.n_channels, results)
            c += n_at_once
        transpose_from_panel(
            results, n_vectors * VL, v.chunk_pixels[chunk + 1] - v.chunk_pixels[chunk], n,
            v.y + ((image * v.groups + group) * v.M + m) * v.n_pixels + v.chunk_pixels[chunk], v.n_pixels,
        )


cdef Py_ssize_t count_panels(Py_ssize_t M) noexcept nogil:
    cdef Py_ssize_t m = 0, n = 0
    while m < M:
        m += channel_vectors(M - m) * VL
        n += 1
    return n


cdef void channels_as_taps(Windows* v) noexcept nogil:
    """Where there is one tap, the loop over taps takes the place of that over channels: one loop rather than two."""
    cdef Py_ssize_t c, i
    for c in range(v.n_channels):
        v.taps[c].x = c * v.x_plane
        v.taps[c].weight = c
    for i in range(v.chunk_regions[v.n_chunks]):
        v.regions[i].first_tap = 0
        v.regions[i].n_taps *= v.n_channels
    v.x_plane *= v.n_channels
    v.n_channels = 1


cdef int convolve_by_channels(Conv* conv, bint back, const real* x, const real* w, const real* bias, bint relu,
                              real* y) noexcept nogil:
    """conv2d, or if `back` the gradient of its input: x is what comes in, y what goes out, either way.

    -1 where there is no memory for tables and scratch.
    """
    cdef Windows v
    cdef Positions rows, columns
    cdef Py_ssize_t x_row, rows_per_chunk, n_shares, n_pairs, n_regions, n_table, n_packed, n_bias, n_units, group, i
    cdef Py_ssize_t n_table_bytes, n_region_bytes, n_index_bytes, n_weight_bytes, n_bias_bytes, n_places = 0
    cdef Py_ssize_t* places
    cdef char* memory
    cdef char* at
    cdef real* packed
    v.N = conv.N
    v.groups = conv.groups
    v.relu = relu
    v.back = back
    v.n_taps = conv.R * conv.S
    if back:
        rows.n = conv.H
        columns.n = conv.W
        v.M = conv.C
        v.n_channels = conv.O
        v.x_plane = conv.P * conv.Q
        x_row = conv.Q
    else:
        rows.n = conv.P
        columns.n = conv.Q
        v.M = conv.O
        v.n_channels = conv.C
        v.x_plane = conv.H * conv.W
        x_row = conv.W
    v.image_plane = v.x_plane
    v.n_pixels = rows.n * columns.n
    v.K = v.n_channels * v.n_taps
    places = <Py_ssize_t*>take_scratch(4 * (rows.n + columns.n) * sizeof(Py_ssize_t))
    if places == NULL:
        return -1
    n_places = place(&rows, places)
    place(&columns, places + n_places)
    if back:
        look_back(&rows, conv.P, conv.R, conv.stride[0], conv.padding[0], conv.dilation[0])
        look_back(&columns, conv.Q, conv.S, conv.stride[1], conv.padding[1], conv.dilation[1])
    else:
        look_forward(&rows, conv.H, conv.R, conv.stride[0], conv.padding[0], conv.dilation[0])
        look_forward(&columns, conv.W, conv.S, conv.stride[1], conv.padding[1], conv.dilation[1])
    rows_per_chunk = max(1, PIXELS_PER_CHUNK // columns.n)
    v.n_chunks = ceil_div(rows.n, rows_per_chunk)
    v.n_panels = count_panels(v.M)
    v.n_scratch = min(rows_per_chunk, rows.n) * columns.n * PANEL
    # Image by image, all weights are read for each; panel by panel, all images, which the processor foresees less well.
    v.weights_stay = v.N > 1 and v.M * v.K > 4 * v.n_panels * v.n_channels * v.x_plane
    v.pixels_stay = not v.weights_stay and v.M * v.K * <Py_ssize_t>sizeof(real) <= WEIGHT_BYTES_PER_CHUNK
    v.packs_by_need = (
        v.n_taps > 1 and v.M * v.K * <Py_ssize_t>sizeof(real) >= WEIGHT_BYTES_BY_NEED
        and 1.0 * v.N * v.n_pixels * PANEL * sizeof(real) <= RESULT_BYTES_BY_NEED
    )
    n_units = v.groups * v.n_panels
    if v.packs_by_need:
        v.n_scratch = v.N * v.n_pixels * PANEL + channels_at_once(&v, 1) * v.n_taps * PANEL
    else:
        n_units *= v.N * v.n_chunks
    n_shares = shares_of(2.0 * v.N * v.groups * v.M * v.K * conv.P * conv.Q, n_units)
    n_pairs = rows.n_classes * columns.n_classes
    n_regions = min(rows.n, v.n_chunks * rows.n_classes) * columns.n_classes + 1
    n_table = max(taps_seen(&rows) * taps_seen(&columns), v.n_channels)
    n_packed = 0 if v.packs_by_need else v.groups * up(v.M) * v.K
    n_bias = v.groups * up(v.M) if bias != NULL else 0
    n_table_bytes = lines(n_table, sizeof(Tap))
    n_region_bytes = lines(n_regions, sizeof(Region))
    n_index_bytes = lines(2 * v.n_pixels + 2 * (v.n_chunks + 1) + n_pairs, sizeof(Py_ssize_t))
    n_weight_bytes = lines(n_packed, sizeof(real))
    n_bias_bytes = lines(n_bias, sizeof(real))
    memory = <char*>take_scratch(n_table_bytes + n_region_bytes + n_index_bytes + n_weight_bytes + n_bias_bytes
                           + n_shares * v.n_scratch * sizeof(real) + 64)
    if memory == NULL:
        give_scratch(places)
        return -1
    at = on_a_line(memory)
    v.taps = <Tap*>at
    v.regions = <Region*>(at + n_table_bytes)
    v.x_at = <Py_ssize_t*>(at + n_table_bytes + n_region_bytes)
    v.y_at = v.x_at + v.n_pixels
    v.chunk_regions = v.y_at + v.n_pixels
    v.chunk_pixels = v.chunk_regions + v.n_chunks + 1
    lay_regions(&v, &rows, &columns, x_row, conv.S, rows_per_chunk)
    give_scratch(places)
    at += n_table_bytes + n_region_bytes + n_index_bytes
    v.w = w
    if not v.packs_by_need:
        packed = <real*>at
        for group in range(v.groups):
            pack_panels(&v, back, w + group * v.M * v.K, packed + group * up(v.M) * v.K)
        v.w = packed
    if v.n_taps == 1:
        channels_as_taps(&v)
    at += n_weight_bytes
    v.bias = NULL
    if bias != NULL:
        packed = <real*>at
        memset(packed, 0, n_bias_bytes)
        for group in range(v.groups):
            memcpy(packed + group * up(v.M), bias + group * v.M, v.M * sizeof(real))
        v.bias = packed
    v.scratch = <real*>(at + n_bias_bytes)
    v.x = x
    v.y = y
    run(panels_worker if v.packs_by_need else windows_worker, &v, n_shares)
    give_scratch(memory)
    return 0
