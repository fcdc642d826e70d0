# The loops of normalisation. x is N samples of C channels of S positions; what has a mean of its own is
#
#   BY_SAMPLE   L numbers next to each other: a sample, or a group of its channels (layer_norm, group_norm),
#   BY_PLANE    a channel: S numbers next to each other in every sample (batch_norm of images),
#   BY_COLUMN   a channel whose positions are too few to fill vectors: the lanes are the C · S columns.
#
# Each mean is the work of one thread, or a sum over blocks of rows, so that the number of threads is not seen.
from libc.math cimport sqrt as sqrt_of_double

cdef enum:
    BY_SAMPLE, BY_PLANE, BY_COLUMN

cdef enum:
    N_SUMS = 4  # side by side
    ROWS_AT_ONCE = 4
    ROWS_PER_PART = 32
    COLUMNS_AT_ONCE = 1024  # whose sums stay in the first cache
    PARTS_AT_ONCE = 64
    FEW_POSITIONS = VL
    RUNS_AT_ONCE = 32
    PIECE = N_SUMS * ADDITIONS * VL  # numbers, which the first cache holds

cdef struct Norm:
    int kind, first, last  # of the axes, which are channels from `first` to before `last`
    Py_ssize_t N, C, S, L, n_groups
    Py_ssize_t n_parts  # blocks of rows: of N samples
    double eps
    bint fixed  # mean and rate are constants
    const real* x
    const real* g
    const real* w
    const real* b
    const real* means
    const real* rates
    real* out  # of the size of x: the result, or the gradient of x
    real* mean
    real* variance
    real* rate
    # Sums by channel of g · h and g: in the end, and of each part or sample.
    real* w_sum
    real* b_sum
    real* w_parts
    real* b_parts
    # Of each column.
    real* columns


cdef struct Moments:
    double n, mean, squares  # the sum of the squares of the differences from the mean


cdef inline void clear(Moments* m) noexcept nogil:
    m.n = m.mean = m.squares = 0


cdef inline void merge(Moments* m, double n, double mean, double squares) noexcept nogil:
    """By Chan, Golub and LeVeque (1983)."""
    cdef double all_of_them = m.n + n, apart = mean - m.mean
    if m.n == 0:
        m.mean = mean
        m.squares = squares
    else:
        m.mean += apart * (n / all_of_them)
        m.squares += squares + apart * apart * (m.n * n / all_of_them)
    m.n = all_of_them


cdef inline double in_lanes(const vec* s) noexcept nogil:
    return across(SUM, (s[0] + s[1]) + (s[2] + s[3]))


cdef inline void take_in_runs(Moments* m, const real* x, Py_ssize_t n, Py_ssize_t n_runs,
                              Py_ssize_t step) noexcept nogil:
    """Runs of n numbers next to each other, in all no more than a piece.

    They are taken relative to the first run's mean, and what this is away from that of all, by rounding or because
    runs differ, is taken out of both moments. Of 32 runs, the first's mean is no farther from that of all than √32
    deviations: at most 5 bits of the variance are lost. The planes of 64 × 128 × 7 × 7 one by one, each twice, took
    the whole of `normalize` 223 µs, and together 84.
    """
    cdef vec[N_SUMS] s, q
    cdef vec centre = VSET1(sum_row(x, n) / <real>n), d
    cdef Py_ssize_t i, r
    cdef double slip, count = <double>n * n_runs
    cdef int j
    for j in range(N_SUMS):
        s[j] = q[j] = VZERO
    for r in range(n_runs):
        i = 0
        while i + N_SUMS * VL <= n:
            for j in range(N_SUMS):
                d = at(x + i + j * VL) - centre
                s[j] = s[j] + d
                q[j] = q[j] + d * d
            i += N_SUMS * VL
        while i < n:
            d = load(x + i, min(n - i, VL)) - centre
            if n - i < VL:
                d = VAND(d, FIRST_LANES(n - i))
            s[0] = s[0] + d
            q[0] = q[0] + d * d
            i += VL
        x += step
    slip = in_lanes(s) / count
    merge(m, count, <double>FIRST_OF(centre) + slip, in_lanes(q) - slip * slip * count)


cdef inline void take_in(Moments* m, const real* x, Py_ssize_t n) noexcept nogil:
    """n numbers next to each other, piece by piece: by the corrected two-pass algorithm."""
    cdef Py_ssize_t i
    for i from 0 <= i < n by PIECE:
        take_in_runs(m, x + i, min(n - i, PIECE), 1, 0)


cdef inline Py_ssize_t runs_at_once(Py_ssize_t n) noexcept nogil:
    """How many runs of n numbers are a piece."""
    return max(1, min(RUNS_AT_ONCE, PIECE // n))


cdef inline void settle(Norm* p, Moments* m, Py_ssize_t i) noexcept nogil:
    """Mean number i, from its moments. (Rounding can take the variance of equal numbers below 0.)"""
    cdef double variance = m.squares / m.n
    if variance < 0:
        variance = 0
    p.mean[i] = <real>m.mean
    p.variance[i] = <real>variance
    p.rate[i] = <real>(1 / sqrt_of_double(variance + p.eps))


cdef inline void shifted(const real* x, real* out, Py_ssize_t n, const real* means, const real* rates, const real* w,
                         const real* b, bint each_mean, bint has_w, bint has_b, bint each_w) noexcept nogil:
    """(x − mean) · rate · w + b of n numbers. What is not of each of them is one number."""
    cdef vec mean = VSET1(means[0]), rate = VSET1(rates[0]), scale = VZERO, shift = VZERO, y
    cdef Py_ssize_t i = 0, lanes
    if has_w:
        scale = VSET1(w[0])
    if has_b:
        shift = VSET1(b[0])
    while i < n:
        lanes = min(n - i, VL)
        if each_mean:
            mean = load(means + i, lanes)
            rate = load(rates + i, lanes)
        y = (load(x + i, lanes) - mean) * rate
        if has_w:
            if each_w:
                scale = load(w + i, lanes)
            y = y * scale
        if has_b:
            if each_w:
                shift = load(b + i, lanes)
            y = y + shift
        store(out + i, y, lanes)
        i += VL


cdef inline void shift_run(const real* x, real* out, Py_ssize_t n, const real* means, const real* rates, const real* w,
                           const real* b, bint each_mean, bint each_w) noexcept nogil:
    """The same where w or b may be absent; each case is a loop of its own."""
    if w != NULL and b != NULL:
        shifted(x, out, n, means, rates, w, b, each_mean, True, True, each_w)
    elif w != NULL:
        shifted(x, out, n, means, rates, w, b, each_mean, True, False, each_w)
    elif b != NULL:
        shifted(x, out, n, means, rates, w, b, each_mean, False, True, each_w)
    else:
        shifted(x, out, n, means, rates, w, b, each_mean, False, False, each_w)


cdef void norm_samples_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_SAMPLE, forward: a unit is what has one mean."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t n_groups = p.C * p.S // p.L, n_units = p.N * n_groups, unit, group, c, n_channels = p.L // p.S
    cdef const real* x
    cdef real* out
    cdef Moments m
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        x = p.x + unit * p.L
        out = p.out + unit * p.L
        clear(&m)
        take_in(&m, x, p.L)
        settle(p, &m, unit)
        group = unit % n_groups * n_channels
        if p.S == 1:
            shift_run(x, out, p.L, p.mean + unit, p.rate + unit, after(p.w, group), after(p.b, group), False, True)
        else:
            for c in range(n_channels):
                shift_run(x + c * p.S, out + c * p.S, p.S, p.mean + unit, p.rate + unit, after(p.w, group + c),
                          after(p.b, group + c), False, False)


cdef void norm_planes_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_PLANE, forward: a unit is a channel, which the second cache holds between its mean and its result."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t c, n, first, n_runs = runs_at_once(p.S)
    cdef const real* means = p.means
    cdef const real* rates = p.rates
    cdef Moments m
    for c in range(start_of(share, n_shares, p.C), start_of(share + 1, n_shares, p.C)):
        if not p.fixed:
            clear(&m)
            for n from 0 <= n < p.N by n_runs:
                first = (n * p.C + c) * p.S
                if n_runs == 1:
                    take_in(&m, p.x + first, p.S)
                else:
                    take_in_runs(&m, p.x + first, p.S, min(p.N - n, n_runs), p.C * p.S)
            settle(p, &m, c)
        for n in range(p.N):
            first = (n * p.C + c) * p.S
            shift_run(p.x + first, p.out + first, p.S, means + c, rates + c, after(p.w, c), after(p.b, c), False, False)


cdef inline void fold_shifted(const real* x, const real* pivot, real* sums, real* squares, Py_ssize_t n,
                              Py_ssize_t step, int n_rows, bint is_first) noexcept nogil:
    """Adds rows of n numbers, less the pivot's, and their squares to the sums by column."""
    cdef vec s, q, d, centre
    cdef Py_ssize_t i = 0, lanes
    cdef int j
    while i < n:
        lanes = min(n - i, VL)
        centre = load(pivot + i, lanes)
        s = VZERO if is_first else load(sums + i, lanes)
        q = VZERO if is_first else load(squares + i, lanes)
        for j in range(n_rows):
            d = load(x + j * step + i, lanes) - centre
            s = s + d
            q = q + d * d
        store(sums + i, s, lanes)
        store(squares + i, q, lanes)
        i += VL


cdef void norm_column_sums_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_COLUMN, forward: of each part of the rows the sums of what they are more than its first, and of the squares.

    Of 32 rows, the first is no farther from their mean than √32 deviations: at most 5 bits of the variance are lost.
    """
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t M = p.C * p.S, part, row, end, i, n
    cdef const real* x
    cdef real* sums
    cdef real* squares
    for part in range(start_of(share, n_shares, p.n_parts), start_of(share + 1, n_shares, p.n_parts)):
        for i from 0 <= i < M by COLUMNS_AT_ONCE:
            n = min(M - i, COLUMNS_AT_ONCE)
            row = part * ROWS_PER_PART
            end = min(p.N, row + ROWS_PER_PART)
            x = p.x + row * M + i
            sums = p.b_parts + part * M + i
            squares = p.w_parts + part * M + i
            if end - row >= ROWS_AT_ONCE:
                fold_shifted(x, x, sums, squares, n, M, ROWS_AT_ONCE, True)
                row += ROWS_AT_ONCE
            else:
                fold_shifted(x, x, sums, squares, n, M, 1, True)
                row += 1
            while row + ROWS_AT_ONCE <= end:
                fold_shifted(p.x + row * M + i, x, sums, squares, n, M, ROWS_AT_ONCE, False)
                row += ROWS_AT_ONCE
            while row < end:
                fold_shifted(p.x + row * M + i, x, sums, squares, n, M, 1, False)
                row += 1


cdef inline void column_moments(Norm* p, real* means, real* squares, Py_ssize_t i, Py_ssize_t lanes) noexcept nogil:
    """The moments of columns, from those of the parts: of means, what they are more than the first row.

    Both are sums of sums of what the parts' means are more than the first.
    """
    cdef Py_ssize_t M = p.C * p.S, part, first, end
    cdef vec pivot, apart, mean = VZERO, total = VZERO, some, n, s
    cdef real last = <real>(p.N - (p.n_parts - 1) * ROWS_PER_PART), whole = <real>p.N
    pivot = load(p.x + i, lanes)
    for first from 0 <= first < p.n_parts by PARTS_AT_ONCE:
        end = min(p.n_parts, first + PARTS_AT_ONCE)
        some = VZERO
        for part in range(first, end):
            n = VSET1(last if part == p.n_parts - 1 else <real>ROWS_PER_PART)
            some = some + (load(p.x + part * ROWS_PER_PART * M + i, lanes) - pivot) * n
            some = some + load(p.b_parts + part * M + i, lanes)
        mean = mean + some
    mean = mean / VSET1(whole)
    for first from 0 <= first < p.n_parts by PARTS_AT_ONCE:
        end = min(p.n_parts, first + PARTS_AT_ONCE)
        some = VZERO
        for part in range(first, end):
            n = VSET1(last if part == p.n_parts - 1 else <real>ROWS_PER_PART)
            s = load(p.b_parts + part * M + i, lanes) / n
            apart = (load(p.x + part * ROWS_PER_PART * M + i, lanes) - pivot) + s - mean
            some = some + (load(p.w_parts + part * M + i, lanes) - s * s * n) + apart * apart * n
        total = total + some
    store(means + i, mean, lanes)
    store(squares + i, total, lanes)


cdef void settle_columns(Norm* p) noexcept nogil:
    """The moments of each channel, from those of its columns, which are as many numbers each."""
    cdef Py_ssize_t M = p.C * p.S, i = 0, c, s, lanes
    cdef real* means = p.mean if p.S == 1 else p.columns
    cdef real* squares = p.variance if p.S == 1 else p.columns + M
    cdef vec variance
    cdef double apart
    cdef Moments m
    while i < M:
        column_moments(p, means, squares, i, min(M - i, VL))
        i += VL
    if p.S > 1:
        for c in range(p.C):
            clear(&m)
            m.n = <double>p.N * p.S
            for s in range(c * p.S, (c + 1) * p.S):
                m.mean += <double>p.x[s] + means[s]
            m.mean /= p.S
            for s in range(c * p.S, (c + 1) * p.S):
                apart = <double>p.x[s] + means[s] - m.mean
                m.squares += squares[s] + p.N * apart * apart
            settle(p, &m, c)
        return
    i = 0
    while i < M:
        lanes = min(M - i, VL)
        variance = load(squares + i, lanes) / VSET1(<real>p.N)
        variance = VANDNOT(variance, VLESS0(variance))
        store(p.mean + i, load(p.x + i, lanes) + load(p.mean + i, lanes), lanes)
        store(p.variance + i, variance, lanes)
        store(p.rate + i, VSET1(<real>1) / VSQRT(variance + VSET1(<real>p.eps)), lanes)
        i += VL


cdef const real* to_columns(Norm* p, const real* of_channel, real* of_column) noexcept nogil:
    """What there is one of for each channel, for each of its columns; nothing of nothing."""
    cdef Py_ssize_t c, s
    if of_channel == NULL:
        return NULL
    for c in range(p.C):
        for s in range(p.S):
            of_column[c * p.S + s] = of_channel[c]
    return of_column


cdef void norm_columns_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_COLUMN, the result: here means, rates, w and b are of each column."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t M = p.C * p.S, row
    for row in range(start_of(share, n_shares, p.N), start_of(share + 1, n_shares, p.N)):
        shift_run(p.x + row * M, p.out + row * M, M, p.means, p.rates, p.w, p.b, True, True)
