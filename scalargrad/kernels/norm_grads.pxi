# The loops of normalisation's gradients. With h = (x − mean) · rate and d = g · w, that of x is
#
#   (d − mean(d) − h · mean(d · h)) · rate = scale · g − level − (x − mean) · slope,
#
# where scale = w · rate, level = mean(d) · rate and slope = mean(d · h) · rate².

cdef inline void sums_of_runs(const real* g, const real* x, const real* w, Py_ssize_t n, Py_ssize_t n_runs,
                              Py_ssize_t step, real mean_of, real rate_of, double* d_sum, double* dh_sum, bint has_x,
                              bint has_w) noexcept nogil:
    """Adds Σ d and Σ d · h of runs of n numbers next to each other, in all no more than a piece."""
    cdef vec[N_SUMS] s, q
    cdef vec mean = VSET1(mean_of), rate = VSET1(rate_of), d
    cdef Py_ssize_t i, r, lanes
    cdef int j
    for j in range(N_SUMS):
        s[j] = q[j] = VZERO
    for r in range(n_runs):
        i = 0
        while i + N_SUMS * VL <= n:
            for j in range(N_SUMS):
                d = at(g + i + j * VL)
                if has_w:
                    d = d * at(w + i + j * VL)
                s[j] = s[j] + d
                if has_x:
                    q[j] = q[j] + d * ((at(x + i + j * VL) - mean) * rate)
            i += N_SUMS * VL
        while i < n:
            lanes = min(n - i, VL)
            d = load(g + i, lanes)
            if has_w:
                d = d * load(w + i, lanes)
            s[0] = s[0] + d
            if has_x:
                d = d * ((load(x + i, lanes) - mean) * rate)
                if lanes < VL:
                    d = VAND(d, FIRST_LANES(lanes))
                q[0] = q[0] + d
            i += VL
        g += step
        if has_x:
            x += step
    d_sum[0] += in_lanes(s)
    if has_x:
        dh_sum[0] += in_lanes(q)


cdef inline void gradient_sums(const real* g, const real* x, const real* w, Py_ssize_t n, Py_ssize_t n_runs,
                               Py_ssize_t step, real mean, real rate, double* d_sum, double* dh_sum, bint has_x,
                               bint has_w) noexcept nogil:
    """The same of runs of any length, of which there are several only if all are one piece. Without w, d is g."""
    cdef Py_ssize_t i
    if n <= PIECE:
        sums_of_runs(g, x, w, n, n_runs, step, mean, rate, d_sum, dh_sum, has_x, has_w)
        return
    for i from 0 <= i < n by PIECE:
        sums_of_runs(g + i, after(x, i), after(w, i), min(n - i, PIECE), 1, 0, mean, rate, d_sum, dh_sum, has_x, has_w)


cdef inline void gradient_run(const real* g, const real* x, real* out, Py_ssize_t n, real scale_of, real mean_of,
                              real level_of, real slope_of) noexcept nogil:
    """scale · g − level − (x − mean) · slope."""
    cdef vec scale = VSET1(scale_of), mean = VSET1(mean_of), level = VSET1(level_of), slope = VSET1(slope_of)
    cdef Py_ssize_t i = 0, lanes
    while i < n:
        lanes = min(n - i, VL)
        store(out + i, (scale * load(g + i, lanes) - level) - (load(x + i, lanes) - mean) * slope, lanes)
        i += VL


cdef inline void scaled_run(const real* g, real* out, Py_ssize_t n, real scale_of) noexcept nogil:
    cdef vec scale = VSET1(scale_of)
    cdef Py_ssize_t i = 0, lanes
    while i < n:
        lanes = min(n - i, VL)
        store(out + i, scale * load(g + i, lanes), lanes)
        i += VL


cdef void norm_plane_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_PLANE: a unit is a channel."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t c, n, first, n_runs = runs_at_once(p.S), step = p.C * p.S
    cdef double b_sum, w_sum, scale, rate, count = <double>p.N * p.S
    cdef real mean
    for c in range(start_of(share, n_shares, p.C), start_of(share + 1, n_shares, p.C)):
        b_sum = w_sum = 0
        mean = p.means[c] if p.means != NULL else 0
        rate = p.rates[c]
        scale = rate if p.w == NULL else rate * p.w[c]
        if p.w_sum != NULL or not p.fixed:
            for n from 0 <= n < p.N by n_runs:
                first = (n * p.C + c) * p.S
                gradient_sums(p.g + first, p.x + first, NULL, p.S, min(p.N - n, n_runs), step, mean, p.rates[c], &b_sum,
                              &w_sum, True, False)
        elif p.b_sum != NULL:
            for n from 0 <= n < p.N by n_runs:
                gradient_sums(p.g + (n * p.C + c) * p.S, NULL, NULL, p.S, min(p.N - n, n_runs), step, 0, 0, &b_sum,
                              &w_sum, False, False)
        if p.w_sum != NULL:
            p.w_sum[c] = <real>w_sum
        if p.b_sum != NULL:
            p.b_sum[c] = <real>b_sum
        if p.out == NULL:
            continue
        for n in range(p.N):
            first = (n * p.C + c) * p.S
            if p.fixed:
                scaled_run(p.g + first, p.out + first, p.S, <real>scale)
            else:
                gradient_run(p.g + first, p.x + first, p.out + first, p.S, <real>scale, mean,
                             <real>(scale * b_sum / count), <real>(scale * rate * w_sum / count))


cdef void norm_group_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_SAMPLE with several positions: a unit is a group of channels. The sums by channel stand in w_parts, b_parts."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t n_channels = p.L // p.S, n_groups = p.C // n_channels, n_units = p.N * n_groups, unit, c, channel
    cdef Py_ssize_t first
    cdef double b_sum, w_sum, d_sum, dh_sum, rate, w
    cdef real mean
    for unit in range(start_of(share, n_shares, n_units), start_of(share + 1, n_shares, n_units)):
        mean = p.means[unit]
        rate = p.rates[unit]
        d_sum = dh_sum = 0
        for c in range(n_channels):
            b_sum = w_sum = 0
            channel = unit * n_channels + c  # of all samples'
            first = channel * p.S
            gradient_sums(p.g + first, p.x + first, NULL, p.S, 1, 0, mean, p.rates[unit], &b_sum, &w_sum, True, False)
            if p.b_parts != NULL:
                p.b_parts[channel] = <real>b_sum
                p.w_parts[channel] = <real>w_sum
            w = 1 if p.w == NULL else p.w[channel % p.C]
            d_sum += w * b_sum
            dh_sum += w * w_sum
        if p.out == NULL:
            continue
        for c in range(n_channels):
            channel = unit * n_channels + c
            w = 1 if p.w == NULL else p.w[channel % p.C]
            first = channel * p.S
            gradient_run(p.g + first, p.x + first, p.out + first, p.S, <real>(w * rate), mean,
                         <real>(d_sum / p.L * rate), <real>(dh_sum / p.L * rate * rate))


cdef void weigh_row(Norm* p, Py_ssize_t place, Py_ssize_t unit, const real* w, real* level, real* slope) noexcept nogil:
    """Level and slope of a row of L numbers. (Inlined where it is called, it would make each module 40 kB larger.)"""
    cdef double d_sum = 0, dh_sum = 0, rate = p.rates[unit]
    if w != NULL:
        gradient_sums(p.g + place, p.x + place, w, p.L, 1, 0, p.means[unit], p.rates[unit], &d_sum, &dh_sum, True, True)
    else:
        gradient_sums(p.g + place, p.x + place, w, p.L, 1, 0, p.means[unit], p.rates[unit], &d_sum, &dh_sum, True, False)
    level[0] = <real>(d_sum / p.L * rate)
    slope[0] = <real>(dh_sum / p.L * rate * rate)


cdef inline void rows_grads(Norm* p, Py_ssize_t first, Py_ssize_t unit, Py_ssize_t unit_step, const real* w,
                            real* w_part, real* b_part, int n_rows, bint has_w, bint has_out, bint has_parts,
                            bint is_first) noexcept nogil:
    """BY_SAMPLE with one position: rows of L numbers, C apart, whose means are `unit_step` apart.

    Column by column, so that what they add to the sums by channel is added up in registers.
    """
    cdef vec[ROWS_AT_ONCE] mean, rate, level, slope
    cdef vec scale, g, x, b_sum = VZERO, w_sum = VZERO
    cdef Py_ssize_t i = 0, lanes, place
    cdef real level_of = 0, slope_of = 0
    cdef int j
    for j in range(n_rows):
        mean[j] = VSET1(p.means[unit + j * unit_step])
        rate[j] = VSET1(p.rates[unit + j * unit_step])
        if has_out:
            weigh_row(p, first + j * p.C, unit + j * unit_step, w, &level_of, &slope_of)
            level[j] = VSET1(level_of)
            slope[j] = VSET1(slope_of)
    while i < p.L:
        lanes = min(p.L - i, VL)
        if has_w:
            scale = load(w + i, lanes)
        if has_parts and not is_first:
            b_sum = load(b_part + i, lanes)
            w_sum = load(w_part + i, lanes)
        elif has_parts:
            b_sum = w_sum = VZERO
        for j in range(n_rows):
            place = first + j * p.C + i
            g = load(p.g + place, lanes)
            x = load(p.x + place, lanes) - mean[j]
            if has_parts:
                b_sum = b_sum + g
                w_sum = w_sum + g * (x * rate[j])
            if has_out:
                if has_w:
                    g = g * scale
                store(p.out + place, (g * rate[j] - level[j]) - x * slope[j], lanes)
        if has_parts:
            store(b_part + i, b_sum, lanes)
            store(w_part + i, w_sum, lanes)
        i += VL


cdef inline void part_grads(Norm* p, Py_ssize_t part, bint has_w, bint has_out, bint has_parts) noexcept nogil:
    cdef Py_ssize_t n_groups = p.C // p.L, group, row, end, channel, unit
    cdef const real* w
    cdef real* w_part
    cdef real* b_part
    for group in range(n_groups):
        channel = group * p.L
        w = after(p.w, channel)
        w_part = p.w_parts + part * p.C + channel if has_parts else NULL
        b_part = p.b_parts + part * p.C + channel if has_parts else NULL
        row = part * ROWS_PER_PART
        end = min(p.N, row + ROWS_PER_PART)
        if end - row >= ROWS_AT_ONCE:
            rows_grads(p, row * p.C + channel, row * n_groups + group, n_groups, w, w_part, b_part, ROWS_AT_ONCE, has_w,
                       has_out, has_parts, True)
            row += ROWS_AT_ONCE
        else:
            rows_grads(p, row * p.C + channel, row * n_groups + group, n_groups, w, w_part, b_part, 1, has_w, has_out,
                       has_parts, True)
            row += 1
        while row + ROWS_AT_ONCE <= end:
            rows_grads(p, row * p.C + channel, row * n_groups + group, n_groups, w, w_part, b_part, ROWS_AT_ONCE, has_w,
                       has_out, has_parts, False)
            row += ROWS_AT_ONCE
        while row < end:
            rows_grads(p, row * p.C + channel, row * n_groups + group, n_groups, w, w_part, b_part, 1, has_w, has_out,
                       has_parts, False)
            row += 1


cdef void norm_row_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_SAMPLE with one position: a unit is a part of the rows."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t part
    for part in range(start_of(share, n_shares, p.n_parts), start_of(share + 1, n_shares, p.n_parts)):
        if p.out == NULL:
            part_grads(p, part, False, False, True)
        elif p.w == NULL and p.w_parts == NULL:
            part_grads(p, part, False, True, False)
        elif p.w == NULL:
            part_grads(p, part, False, True, True)
        elif p.w_parts == NULL:
            part_grads(p, part, True, True, False)
        else:
            part_grads(p, part, True, True, True)


cdef inline void fold_gradients(const real* g, const real* x, const real* means, const real* rates, real* b_sums,
                                real* w_sums, Py_ssize_t n, Py_ssize_t step, int n_rows, bint has_x,
                                bint is_first) noexcept nogil:
    """Adds rows of n numbers, g and g · h, to the sums by column."""
    cdef vec b_sum, w_sum = VZERO, mean = VZERO, rate = VZERO, d
    cdef Py_ssize_t i = 0, lanes
    cdef int j
    while i < n:
        lanes = min(n - i, VL)
        b_sum = VZERO if is_first else load(b_sums + i, lanes)
        if has_x:
            w_sum = VZERO if is_first else load(w_sums + i, lanes)
            mean = load(means + i, lanes)
            rate = load(rates + i, lanes)
        for j in range(n_rows):
            d = load(g + j * step + i, lanes)
            b_sum = b_sum + d
            if has_x:
                w_sum = w_sum + d * ((load(x + j * step + i, lanes) - mean) * rate)
        store(b_sums + i, b_sum, lanes)
        if has_x:
            store(w_sums + i, w_sum, lanes)
        i += VL


cdef inline void part_column_sums(Norm* p, Py_ssize_t part, bint has_x) noexcept nogil:
    cdef Py_ssize_t M = p.C * p.S, row, end, i, n, n_rows
    for i from 0 <= i < M by COLUMNS_AT_ONCE:
        n = min(M - i, COLUMNS_AT_ONCE)
        row = part * ROWS_PER_PART
        end = min(p.N, row + ROWS_PER_PART)
        while row < end:
            n_rows = ROWS_AT_ONCE if row + ROWS_AT_ONCE <= end else 1
            if n_rows == 1:
                fold_gradients(p.g + row * M + i, after(p.x, row * M + i), after(p.means, i), p.rates + i,
                               p.b_parts + part * M + i, p.w_parts + part * M + i, n, M, 1, has_x,
                               row == part * ROWS_PER_PART)
            else:
                fold_gradients(p.g + row * M + i, after(p.x, row * M + i), after(p.means, i), p.rates + i,
                               p.b_parts + part * M + i, p.w_parts + part * M + i, n, M, ROWS_AT_ONCE, has_x,
                               row == part * ROWS_PER_PART)
            row += n_rows


cdef void norm_column_grad_sums_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_COLUMN: a unit is a part of the rows. Here means and rates are of each column."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t part
    for part in range(start_of(share, n_shares, p.n_parts), start_of(share + 1, n_shares, p.n_parts)):
        if p.x == NULL:
            part_column_sums(p, part, False)
        else:
            part_column_sums(p, part, True)


cdef void norm_column_grads_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """BY_COLUMN: scale, level and slope of each column stand in `columns`, one after another."""
    cdef Norm* p = <Norm*>job
    cdef Py_ssize_t M = p.C * p.S, row, i, place, lanes
    cdef const real* scale = p.columns
    cdef const real* level = p.columns + M
    cdef const real* slope = p.columns + 2 * M
    cdef vec y
    for row in range(start_of(share, n_shares, p.N), start_of(share + 1, n_shares, p.N)):
        i = 0
        while i < M:
            lanes = min(M - i, VL)
            place = row * M + i
            y = load(scale + i, lanes) * load(p.g + place, lanes)
            if not p.fixed:
                y = (y - load(level + i, lanes)) - (load(p.x + place, lanes) - load(p.means + i, lanes)) * load(
                    slope + i, lanes)
            store(p.out + place, y, lanes)
            i += VL
