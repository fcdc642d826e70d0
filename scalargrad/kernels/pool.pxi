# Pooling of planes: the maximum, the mean and their gradients, over windows of any kind. The planes are in the lanes: of
# VL planes a few rows at a time are transposed, so that an entry of all of them is one vector. Then every tap of every
# window is a whole vector, however narrow the image and whatever the stride, and borders cost nothing: a window is the
# part of it that lies inside the image. Windows of 2 x 2 side by side have a faster path (pool_two_by_two.pxi).
#
# (32, 64, 56, 56) in windows of 3 x 3, stride 2, float32, AVX-512, one thread: 11.4 ms with pixels in the lanes, which
# for the adaptive windows and for narrow images were not full.

cdef enum:
    PANEL_PIXELS = 1024  # of the image, transposed at one time
    BAND_WINDOWS = 1024  # whose results are in the making at one time
    BLOCK_OF_MEAN = 64   # vectors

cdef inline void keep_larger(Pool* p, const real* row, Py_ssize_t number, real* best, ireal* numbers) noexcept nogil:
    """One row of the image, whose first entry has this number, into the windows of one row."""
    cdef Py_ssize_t q, j, step = p.dilation[1] * VL
    cdef Extent* s
    cdef const real* at
    cdef vec tap, best_here
    cdef ivec wins, numbers_here
    for q in range(p.Q):
        s = &p.columns[q]
        at = row + s.first * VL
        best_here = (<uvec*>(best + q * VL))[0]
        numbers_here = (<uivec*>(numbers + q * VL))[0]
        for j in range(s.count):
            tap = (<const uvec*>at)[0]
            wins = VWINS(tap, best_here)
            best_here = VSELECT(wins, tap, best_here)
            numbers_here = ISELECT(wins, ISET1(<int>(number + s.number + j)), numbers_here)
            at += step
        (<uvec*>(best + q * VL))[0] = best_here
        (<uivec*>(numbers + q * VL))[0] = numbers_here


cdef inline void add_row(Pool* p, const real* row, real* sums) noexcept nogil:
    """A window's sum is the sum of its rows' sums, which keeps large windows accurate."""
    cdef Py_ssize_t q, j
    cdef Extent* s
    cdef const real* at
    cdef vec total
    for q in range(p.Q):
        s = &p.columns[q]
        at = row + s.first * VL
        total = VZERO
        for j in range(s.count):
            total += (<const uvec*>at)[0]
            at += VL
        (<uvec*>(sums + q * VL))[0] = (<uvec*>(sums + q * VL))[0] + total


cdef inline void spread_to_winners(Pool* p, const real* g, const ireal* numbers, Py_ssize_t number,
                                   real* row) noexcept nogil:
    cdef Py_ssize_t q, j, step = p.dilation[1] * VL
    cdef Extent* s
    cdef real* at
    cdef vec g_here
    cdef ivec numbers_here
    for q in range(p.Q):
        s = &p.columns[q]
        at = row + s.first * VL
        g_here = (<const uvec*>(g + q * VL))[0]
        numbers_here = (<const uivec*>(numbers + q * VL))[0]
        for j in range(s.count):
            (<uvec*>at)[0] = (<uvec*>at)[0] + VAND(g_here, IEQUAL(numbers_here, <int>(number + s.number + j)))
            at += step


cdef inline void spread_to_all(Pool* p, const real* parts, real* row) noexcept nogil:
    cdef Py_ssize_t q, j
    cdef Extent* s
    cdef real* at
    cdef vec part
    for q in range(p.Q):
        s = &p.columns[q]
        at = row + s.first * VL
        part = (<const uvec*>(parts + q * VL))[0]
        for j in range(s.count):
            (<uvec*>at)[0] = (<uvec*>at)[0] + part
            at += VL


cdef void divide(Pool* p, Py_ssize_t first, Py_ssize_t end, real* panel) noexcept nogil:
    """Sums to means, and gradients of means to the part of each entry."""
    cdef Py_ssize_t i, q
    for i in range(first, end):
        for q in range(p.Q):
            (<uvec*>panel)[0] = (<uvec*>panel)[0] / VSET1(
                <real>p.divisor if p.divisor != 0 else <real>(p.rows[i].length * p.columns[q].length)
            )
            panel += VL


cdef void first_numbers(Pool* p, Py_ssize_t first, Py_ssize_t end, real* best, ireal* numbers) noexcept nogil:
    """−inf everywhere, won by the first entry inside the image: so a gradient never falls on the padding."""
    cdef Py_ssize_t i, q
    for i in range(first, end):
        for q in range(p.Q):
            (<uvec*>best)[0] = VSET1(<real>-INFINITY)
            (<uivec*>numbers)[0] = ISET1(<int>(p.rows[i].number * p.number_row + p.columns[q].number))
            best += VL
            numbers += VL


cdef void cut_at_zero(Pool* p, Py_ssize_t first, Py_ssize_t end, real* best, ireal* numbers) noexcept nogil:
    """relu, after the maximum: what is not positive gets the number that no tap has. Padding alone stays −inf."""
    cdef Py_ssize_t i, q
    cdef vec here
    cdef ivec cut
    for i in range(first, end):
        for q in range(p.Q):
            here = (<uvec*>best)[0]
            cut = VLESSEQ0(here)
            if p.rows[i].count > 0 and p.columns[q].count > 0:
                (<uvec*>best)[0] = VANDNOT(here, cut)
            (<uivec*>numbers)[0] = ISELECT(cut, ISET1(<int>(p.kernel[0] * p.kernel[1])), (<uivec*>numbers)[0])
            best += VL
            numbers += VL


cdef void store_offsets(Pool* p, Py_ssize_t n, Py_ssize_t at, const ireal* numbers) noexcept nogil:
    cdef Py_ssize_t i
    if p.offset_bytes == 1:
        for i in range(n):
            (<u8*>p.offsets)[at + i] = <u8>numbers[i]
    elif p.offset_bytes == 4:
        for i in range(n):
            (<int32_t*>p.offsets)[at + i] = <int32_t>numbers[i]
    else:
        for i in range(n):
            (<int64_t*>p.offsets)[at + i] = numbers[i]


cdef void load_offsets(Pool* p, Py_ssize_t n, Py_ssize_t at, ireal* numbers) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t position
    if p.offset_bytes == 1:
        for i in range(n):
            numbers[i] = (<const u8*>p.offsets)[at + i]
    elif p.offset_bytes == 4:
        for i in range(n):
            numbers[i] = <ireal>(<const int32_t*>p.offsets)[at + i]
    else:
        for i in range(n):
            position = (<const int64_t*>p.offsets)[at + i]
            numbers[i] = <ireal>position if 0 <= position <= LARGEST_SIZE else -1


cdef void pool_band(Pool* p, bint is_max, Py_ssize_t plane, Py_ssize_t first, Py_ssize_t end,
                    char* scratch) noexcept nogil:
    """The windows of rows `first` to `end` over VL planes, or what is left of them."""
    cdef real* image = <real*>scratch
    cdef real* windows = <real*>(scratch + p.n_image_bytes)
    cdef ireal* numbers = <ireal*>(scratch + p.n_image_bytes + p.n_window_bytes)
    cdef ireal* by_plane = <ireal*>(scratch + p.n_image_bytes + 2 * p.n_window_bytes)
    cdef Py_ssize_t n = min(VL, p.n_planes - plane), n_windows = (end - first) * p.Q, dilation = p.dilation[0]
    cdef Py_ssize_t n_rows, h, i, r, tap, alive = first, out = plane * p.P * p.Q + first * p.Q, start = p.H, stop = 0
    cdef Py_ssize_t rows_at_once = max(1, PANEL_PIXELS // max(p.W, 1))
    for r in range(first, end):
        if p.rows[r].count > 0:
            start = min(start, p.rows[r].first)
            stop = max(stop, end_of(&p.rows[r], dilation))
    if is_max:
        first_numbers(p, first, end, windows, numbers)
    else:
        memset(windows, 0, n_windows * VL * sizeof(real))
    h = start
    while h < stop:
        n_rows = min(rows_at_once, stop - h)
        transpose_to_panel(p.x + (plane * p.H + h) * p.W, p.H * p.W, n, n_rows * p.W, image, VL)
        for i in range(h, h + n_rows):
            while alive < end and end_of(&p.rows[alive], dilation) <= i:
                alive += 1
            for r in range(alive, end):
                if p.rows[r].earliest > i:
                    break
                tap = i - p.rows[r].first
                if tap < 0 or end_of(&p.rows[r], dilation) <= i or tap % dilation:
                    continue
                if is_max:
                    keep_larger(p, image + (i - h) * p.W * VL, (p.rows[r].number + tap // dilation) * p.number_row,
                                windows + (r - first) * p.Q * VL, numbers + (r - first) * p.Q * VL)
                else:
                    add_row(p, image + (i - h) * p.W * VL, windows + (r - first) * p.Q * VL)
        h += n_rows
    if not is_max:
        divide(p, first, end, windows)
    elif p.with_relu:
        cut_at_zero(p, first, end, windows, numbers)
    transpose_from_panel(windows, VL, n_windows, n, p.y + out, p.P * p.Q)
    if is_max:
        # Vectors of numbers travel as vectors of reals do: nothing calculates with them.
        transpose_from_panel(<const real*>numbers, VL, n_windows, n, <real*>by_plane, n_windows)
        for i in range(n):
            store_offsets(p, n_windows, out + i * p.P * p.Q, by_plane + i * n_windows)


cdef void pool_grad_band(Pool* p, bint is_max, Py_ssize_t plane, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t first,
                         Py_ssize_t end, char* scratch) noexcept nogil:
    """The image's rows `start` to `stop` in VL planes, from their windows `first` to `end`. x is g, y the result."""
    cdef real* image = <real*>scratch
    cdef real* windows = <real*>(scratch + p.n_image_bytes)
    cdef ireal* numbers = <ireal*>(scratch + p.n_image_bytes + p.n_window_bytes)
    cdef ireal* by_plane = <ireal*>(scratch + p.n_image_bytes + 2 * p.n_window_bytes)
    cdef Py_ssize_t n = min(VL, p.n_planes - plane), n_windows = (end - first) * p.Q, dilation = p.dilation[0]
    cdef Py_ssize_t i, r, tap, out = plane * p.P * p.Q + first * p.Q
    memset(image, 0, (stop - start) * p.W * VL * sizeof(real))
    if n_windows > 0:
        transpose_to_panel(p.x + out, p.P * p.Q, n, n_windows, windows, VL)
        if is_max:
            for i in range(n):
                load_offsets(p, n_windows, out + i * p.P * p.Q, by_plane + i * n_windows)
            transpose_to_panel(<const real*>by_plane, n_windows, n, n_windows, <real*>numbers, VL)
        else:
            divide(p, first, end, windows)
    for i in range(start, stop):
        for r in range(first, end):
            if p.rows[r].earliest > i:
                break
            tap = i - p.rows[r].first
            if tap < 0 or end_of(&p.rows[r], dilation) <= i or tap % dilation:
                continue
            if is_max:
                spread_to_winners(p, windows + (r - first) * p.Q * VL, numbers + (r - first) * p.Q * VL,
                                  (p.rows[r].number + tap // dilation) * p.number_row,
                                  image + (i - start) * p.W * VL)
            else:
                spread_to_all(p, windows + (r - first) * p.Q * VL, image + (i - start) * p.W * VL)
    transpose_from_panel(image, VL, (stop - start) * p.W, n, p.y + (plane * p.H + start) * p.W, p.H * p.W)


cdef inline bint is_whole(Pool* p) noexcept nogil:
    """Whether there is one window, the image."""
    return (
        p.P == 1 and p.Q == 1 and p.rows[0].count == p.H and p.columns[0].count == p.W and p.dilation[0] == 1
        and p.dilation[1] == 1
    )


cdef void means_of_planes(Pool* p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Each plane is read in a row, without being transposed: (32, 512, 7, 7) in 230 us before."""
    cdef vec[VL] totals
    cdef vec total, other
    cdef Py_ssize_t size = p.H * p.W, plane = first, i, j, n, stop
    cdef real divisor = <real>p.divisor if p.divisor != 0 else <real>(p.rows[0].length * p.columns[0].length)
    cdef const real* x
    while plane < end:
        n = min(VL, end - plane)
        for i in range(n):
            x = p.x + (plane + i) * size
            totals[i] = VZERO
            j = 0
            while j < size:
                # Sums of blocks, and not one long sum, which in float32 would lose digits.
                stop = min(j + BLOCK_OF_MEAN * VL, size)
                total = other = VZERO
                while j + 2 * VL <= stop:
                    total += (<const uvec*>(x + j))[0]
                    other += (<const uvec*>(x + j + VL))[0]
                    j += 2 * VL
                if j + VL <= stop:
                    total += (<const uvec*>(x + j))[0]
                    j += VL
                if j < stop:
                    other += VLOADN(x + j, stop - j)
                    j = stop
                totals[i] = totals[i] + (total + other)
        transpose_square(<const real*>totals, VL, n - 1, <real*>totals, VL)
        total = VZERO
        for i in range(VL):
            total += totals[i]
        VSTOREN(p.y + plane, total / VSET1(divisor), n)
        plane += n


cdef void spread_over_planes(Pool* p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t plane, i, size = p.H * p.W
    cdef real divisor = <real>p.divisor if p.divisor != 0 else <real>(p.rows[0].length * p.columns[0].length)
    cdef vec part
    cdef real* at
    for plane in range(first, end):
        part = VSET1(p.x[plane] / divisor)
        at = p.y + plane * size
        i = 0
        while i + VL <= size:
            (<uvec*>(at + i))[0] = part
            i += VL
        if i < size:
            VSTOREN(at + i, part, size - i)


cdef inline void pool_planes(Pool* p, bint is_max, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Py_ssize_t n_groups = ceil_div(p.n_planes, VL), group, first
    for group in range(start_of(share, n_shares, n_groups), start_of(share + 1, n_shares, n_groups)):
        first = 0
        while first < p.P:
            pool_band(p, is_max, group * VL, first, min(first + p.band, p.P), p.scratch + share * p.n_scratch_bytes)
            first += p.band


cdef inline void pool_grad_planes(Pool* p, bint is_max, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Py_ssize_t n_groups = ceil_div(p.n_planes, VL), group, start, stop, first, end
    for group in range(start_of(share, n_shares, n_groups), start_of(share + 1, n_shares, n_groups)):
        start = first = 0
        while start < p.H:
            stop = min(start + p.band, p.H)
            windows_over(p, start, stop, &first, &end)
            pool_grad_band(p, is_max, group * VL, start, stop, first, end, p.scratch + share * p.n_scratch_bytes)
            start = stop


cdef inline Py_ssize_t first_plane(Pool* p, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """Shares of planes end where groups of VL planes do, whatever the path."""
    return min(start_of(share, n_shares, ceil_div(p.n_planes, VL)) * VL, p.n_planes)


cdef void max_pool_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = first_plane(p, share, n_shares), end = first_plane(p, share + 1, n_shares)
    cdef Halving s
    if not is_halving(p):
        pool_planes(p, True, share, n_shares)
        return
    halving_of(p, end - first, 0, &s)
    if p.with_relu:
        relu_max_pool_two_by_two(&s, p.x + first * s.plane, p.y + first * s.small_plane,
                                 <u8*>p.offsets + first * s.small_plane)
    else:
        max_pool_two_by_two(&s, p.x + first * s.plane, p.y + first * s.small_plane,
                            <u8*>p.offsets + first * s.small_plane)


cdef void max_pool_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = first_plane(p, share, n_shares), end = first_plane(p, share + 1, n_shares)
    cdef Halving s
    if not is_halving(p):
        pool_grad_planes(p, True, share, n_shares)
        return
    halving_of(p, end - first, p.n_planes - end, &s)
    max_pool_grad_two_by_two(&s, p.x + first * s.small_plane, <const u8*>p.offsets + first * s.small_plane,
                             p.y + first * s.plane)


cdef void avg_pool_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = first_plane(p, share, n_shares), end = first_plane(p, share + 1, n_shares)
    cdef Halving s
    if is_whole(p):
        means_of_planes(p, first, end)
        return
    if not is_halving(p):
        pool_planes(p, False, share, n_shares)
        return
    halving_of(p, end - first, 0, &s)
    avg_pool_two_by_two(&s, p.divisor if p.divisor != 0 else 4, p.x + first * s.plane, p.y + first * s.small_plane)


cdef void avg_pool_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """x is the outputs' gradient, y the inputs'."""
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t first = first_plane(p, share, n_shares), end = first_plane(p, share + 1, n_shares)
    cdef Halving s
    if is_whole(p):
        spread_over_planes(p, first, end)
        return
    if not is_halving(p):
        pool_grad_planes(p, False, share, n_shares)
        return
    halving_of(p, end - first, 0, &s)
    avg_pool_grad_two_by_two(&s, p.divisor if p.divisor != 0 else 4, p.x + first * s.small_plane,
                             p.y + first * s.plane)


cdef void max_pool_take_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Pool* p = <Pool*>job
    cdef Py_ssize_t plane, i, q, out, number, h, w
    for plane in range(first_plane(p, share, n_shares), first_plane(p, share + 1, n_shares)):
        for i in range(p.P):
            for q in range(p.Q):
                out = (plane * p.P + i) * p.Q + q
                number = (<const u8*>p.offsets)[out] if p.offset_bytes == 1 else (<const int32_t*>p.offsets)[out]
                p.y[out] = 0
                if number < 0 or number >= p.kernel[0] * p.kernel[1]:
                    continue
                h = i * p.stride[0] - p.padding[0] + (number // p.kernel[1]) * p.dilation[0]
                w = q * p.stride[1] - p.padding[1] + (number % p.kernel[1]) * p.dilation[1]
                if 0 <= h < p.H and 0 <= w < p.W:
                    p.y[out] = p.x[(plane * p.H + h) * p.W + w]


cdef enum PoolKind:
    FORWARD
    BACKWARD


cdef int run_pool(Pool* p, worker_t worker, PoolKind kind, bint is_adaptive, bint count_include_pad) noexcept nogil:
    """-1 where there is no memory for the panels."""
    cdef Py_ssize_t n_shares, n_extent_bytes = lines(p.P + p.Q, sizeof(Extent)), start, first = 0, end, most = 0, n_taps
    cdef Py_ssize_t n_images
    cdef void* memory
    cdef char* at
    if p.n_planes == 0 or p.P == 0 or p.Q == 0:
        memset(p.y, 0, p.n_planes * (p.P * p.Q if kind == FORWARD else p.H * p.W) * sizeof(real))
        return 0
    memory = malloc(n_extent_bytes + 64)
    if memory == NULL:
        return -1
    at = on_a_line(memory)
    p.rows = <Extent*>at
    p.columns = p.rows + p.P
    if is_adaptive:
        fill_adaptive_extents(p)
    else:
        fill_extents(p, count_include_pad)
    if kind == FORWARD:
        p.band = min(p.P, max(1, BAND_WINDOWS // p.Q))
        most = p.band
        n_images = max(1, PANEL_PIXELS // max(p.W, 1)) * p.W
    else:
        p.band = min(p.H, max(1, PANEL_PIXELS // max(p.W, 1)))
        start = 0
        while start < p.H:
            windows_over(p, start, min(start + p.band, p.H), &first, &end)
            most = max(most, end - first)
            start += p.band
        n_images = p.band * p.W
    n_taps = p.rows[p.P // 2].count * p.columns[p.Q // 2].count
    n_shares = shares_of(4.0 * p.n_planes * p.P * p.Q * n_taps, ceil_div(p.n_planes, VL))
    p.n_image_bytes = p.n_window_bytes = p.n_scratch_bytes = 0
    if not is_halving(p) or is_adaptive:
        p.n_image_bytes = lines(n_images * VL, sizeof(real))
        p.n_window_bytes = lines(most * p.Q * VL, sizeof(real))
        p.n_scratch_bytes = p.n_image_bytes + 3 * p.n_window_bytes
    p.scratch = <char*>malloc(n_shares * p.n_scratch_bytes + 64)
    if p.scratch == NULL:
        free(memory)
        return -1
    at = p.scratch
    p.scratch = on_a_line(p.scratch)
    run(worker, p, n_shares)
    free(at)
    free(memory)
    return 0
