# The gradients of the block of convolution, relu and pooling, an image at a time. All that are wanted share the image's
# gradient: its winners (block_winners.pxi), or where zeros have to be multiplied, its planes.

cdef enum:
    GRADIENT_BYTES = 1 << 21     # the largest gradient of one image's convolution that is worth keeping in the cache
    WINDOWS_PER_STRIP = 128
    BLOCK_SUMS = 1 << 23         # numbers in all chunks' sums together
    # A chunk of images is worth its sums from here on.
    FLOP_PER_CHUNK = 2500000

cdef struct BlockGrads:
    WeightJob weights     # the plan and the sums of the weights' gradient
    Correlation to_input
    Frame g_frame         # of the gradient of the convolution's output, its border wide enough for `to_input`
    Py_ssize_t g_start    # where in it the gradient starts
    Halving pool
    const u8* offsets
    real* x_grad          # or NULL, if it is not wanted
    bint wants_weight, wants_bias, wants_planes, fetches
    Py_ssize_t n_planes_bytes, n_panel_bytes
    # The ways by winners alone, for what is finite: to the input by patches, to the weights with channels in the lanes
    # or with windows in the lanes.
    Winners winners
    bint sends_patches, picks, selects
    Py_ssize_t n_winner_bytes, n_patch_bytes, n_phase_bytes


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


cdef void add_selected_windows(BlockGrads* j, const real* seen, const real* g, const u8* offsets, real* phases,
                               real* sums) noexcept nogil:
    """One image's part of the weights' gradient."""
    cdef WeightJob* weights = &j.weights
    cdef Py_ssize_t o, first, n, K = weights.plan.K
    take_columns_apart(&j.winners, seen, weights.plan.row, weights.frame.plane, phases)
    for o in range(weights.conv.O):
        first = o - o % 3
        n = min(3, weights.conv.O - first)
        add_selected(&j.winners, phases, g + o * j.pool.small_plane, offsets + o * j.pool.small_plane,
                     sums + (first * K + o - first) * VL, n * VL)


cdef inline real* bytes_on(void* memory, Py_ssize_t n_bytes) noexcept nogil:
    return <real*>(<char*>memory + n_bytes)


cdef void block_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef BlockGrads* j = <BlockGrads*>job
    cdef WeightJob* weights = &j.weights
    cdef Conv* v = &weights.conv
    cdef Winners* winners = &j.winners
    cdef Halving s = j.pool
    cdef char* scratch = weights.scratch + share * weights.n_scratch_bytes
    cdef real* frame = <real*>scratch
    cdef real* planes = <real*>(scratch + weights.n_frame_bytes)
    cdef real* panel = <real*>(scratch + weights.n_frame_bytes + j.n_planes_bytes)
    cdef real* g_ow = bytes_on(panel, j.n_panel_bytes)
    cdef ireal* at_ow = <ireal*>g_ow + v.O * winners.width
    cdef real* patches = bytes_on(g_ow, j.n_winner_bytes)
    cdef real* patches_end = patches + s.small_plane * v.C * max(winners.patch, PATCH)
    cdef real* phases = bytes_on(patches, j.n_patch_bytes)
    cdef char* strips = <char*>bytes_on(phases, j.n_phase_bytes)
    cdef Py_ssize_t chunk, image, image_size = v.C * v.H * v.W, g_size = v.O * s.small_plane
    cdef const real* g
    cdef const real* x
    cdef const u8* offsets
    cdef const real* seen = NULL
    cdef real* sums
    cdef bint by_patches, by_winners
    memset(frame, 0, weights.n_frame_bytes + j.n_planes_bytes)
    memset(phases, 0, j.n_phase_bytes)
    for chunk in range(start_of(share, n_shares, weights.n_chunks), start_of(share + 1, n_shares, weights.n_chunks)):
        sums = weights.sums + chunk * weights.n_sums
        memset(sums, 0, weights.n_sums * sizeof(real))
        for image in range(start_of(chunk, weights.n_chunks, v.N), start_of(chunk + 1, weights.n_chunks, v.N)):
            g = weights.g + image * g_size
            x = weights.x + image * image_size
            offsets = j.offsets + image * g_size
            s.bytes_behind = (v.N - 1 - image) * g_size
            if j.fetches and image + 1 < v.N:
                fetch_image(g + g_size, g_size * sizeof(real))
                fetch_image(x + image_size, image_size * sizeof(real))
                fetch_image(offsets + g_size, g_size)
                if j.x_grad != NULL:
                    fetch_image(j.x_grad + (image + 1) * image_size, image_size * sizeof(real))
            by_patches = j.sends_patches and are_finite(g, g_size)
            by_winners = (j.picks or j.selects) and are_finite(x, image_size)
            if (j.x_grad != NULL and not by_patches) or (
                j.wants_weight and not by_winners and not weights.channels_in_lanes
            ):
                max_pool_grad_two_by_two(&s, g, offsets, planes + j.g_start)
            if by_patches:
                gather_winners(winners, g, offsets, 2 * v.C * winners.patch, v.C * winners.patch, g_ow, at_ow)
                send_back_patches(winners, v, g_ow, at_ow, patches, patches_end, j.x_grad + image * image_size)
            elif j.x_grad != NULL:
                correlate(&j.to_input, planes, NULL, j.x_grad + image * image_size, v.H * v.W, panel)
            if j.wants_bias:
                add_windows_to_bias(&s, g, offsets, sums + weights.n_sums - v.O * VL)
            if not j.wants_weight:
                continue
            seen = framed(v, &weights.frame, x, VL, frame)
            if by_winners and j.picks:
                gather_winners(winners, g, offsets, 4, 1, g_ow, at_ow)
                cut_patches(winners, seen, weights.plan.row, weights.frame.plane, patches)
                add_picked(winners, patches, g_ow, at_ow, <real*>strips, sums)
            elif by_winners:
                add_selected_windows(j, seen, g, offsets, phases, sums)
            elif weights.channels_in_lanes:
                add_windows_by_channels(j, seen, g, offsets, sums, strips)
            else:
                add_windows_by_pixels(j, seen, planes, sums)


cdef void plan_winners(BlockGrads* j, const real* w) noexcept nogil:
    """Which gradients go by winners alone, and the scratch memory that they take."""
    cdef WeightJob* weights = &j.weights
    cdef Conv* v = &weights.conv
    cdef Winners* winners = &j.winners
    cdef bint is_three_by_three = v.R == 3 and v.S == 3
    cdef Py_ssize_t n_numbers = 0
    winners.P = j.pool.P
    winners.Q = j.pool.Q
    winners.O = v.O
    winners.C = v.C
    winners.R = v.R
    winners.S = v.S
    winners.width = up(j.pool.small_plane)
    j.sends_patches = sends_back_patches(winners) and j.x_grad != NULL and are_finite(w, v.O * v.C * v.R * v.S)
    j.picks = j.wants_weight and weights.channels_in_lanes and is_three_by_three and PICKS_FAST
    j.selects = fill_lanes(winners) and j.wants_weight and not weights.channels_in_lanes and is_three_by_three
    j.n_winner_bytes = 2 * lines(v.O * winners.width, sizeof(real)) if j.sends_patches or j.picks else 0
    if j.sends_patches:
        winners.frame_row = max(2 * (winners.Q - 1) + winners.patch_row, v.W + v.padding[1])
        winners.frame_plane = winners.frame_row * max(2 * winners.P + v.R - 1, v.H + v.padding[0])
        n_numbers = j.pool.small_plane * v.C * max(winners.patch, PATCH) + winners.frame_plane
    if j.picks:
        n_numbers = max(n_numbers, j.pool.small_plane * v.C * PATCH)
    j.n_patch_bytes = lines(n_numbers, sizeof(real))
    j.n_phase_bytes = lines(phases_size(winners), sizeof(real)) if j.selects else 0


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


cdef void block_input_weights(Conv* v, Frame* f, Correlation* c, const real* w, real* w_ck,
                              real* packed) noexcept nogil:
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
    cdef Py_ssize_t n_sum_bytes, n_weight_sums, n_shifted_bytes, chunk, i
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
    plan_winners(&j, w)
    j.fetches = is_worth_fetching(v.N, sizeof(real) * (v.C * v.H * v.W + v.O * s.small_plane))
    n_shifted_bytes = lines(4 * v.O * v.C * j.winners.patch, sizeof(real)) if j.sends_patches else 0
    weights.n_scratch_bytes = (
        weights.n_frame_bytes + j.n_planes_bytes + j.n_panel_bytes + j.n_winner_bytes + j.n_patch_bytes
        + j.n_phase_bytes
        + (lines(max(7 * WINDOWS_PER_STRIP, 2 * s.small_plane) * PANEL, sizeof(real))
           if weights.channels_in_lanes and j.wants_weight else 0)
    )
    memory = take_scratch(n_table_bytes + n_sum_bytes + n_input_table_bytes + n_input_weight_bytes + n_packed_bytes
                          + n_shifted_bytes + n_shares * weights.n_scratch_bytes + 64)
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
    if j.sends_patches:
        j.winners.shifted = <real*>at
        shift_weights(&j.winners, w)
        at += n_shifted_bytes
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
    give_scratch(memory)
    return 0


cdef bint fits_a_block_gradient(Conv* v) noexcept nogil:
    """Whether the gradient of one image's convolution is small enough to stay in the cache."""
    return (<double>v.O * (v.H + 2 * v.padding[0] + v.R) * (v.W + 2 * v.padding[1] + v.S) * sizeof(real)
            <= GRADIENT_BYTES)
