# Normalisation as Python calls it. What is no array of this module's type, or empty, goes on to `plain_norm`, which
# says what each function is.
from scalargrad.kernels import moments
from scalargrad.kernels import plain_norm as normalized_in_numpy

cdef enum:
    OF_X = 1
    OF_W = 2
    OF_B = 4


cdef inline bint is_of_this_type(object x):
    return cnp.PyArray_Check(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == REAL_TYPENUM


cdef bint take_geometry(Norm* p, cnp.ndarray x, object channels, object groups) except -1:
    """What is a sample, a channel and a position. False for what NumPy has to do or to refuse."""
    cdef Py_ssize_t[2] axes
    cdef Py_ssize_t n_groups
    cdef int ndim = cnp.PyArray_NDIM(x), i
    if cnp.PyArray_SIZE(x) == 0 or ndim > MAX_DIMS - 2 or type(channels) is not tuple or len(<tuple>channels) != 2:
        return False
    for i in range(2):
        if not PyLong_CheckExact((<tuple>channels)[i]):
            return False
        axes[i] = PyLong_AsSsize_t((<tuple>channels)[i])
    if not PyLong_CheckExact(groups) or not 0 <= axes[0] <= axes[1] <= ndim:
        return False
    n_groups = PyLong_AsSsize_t(groups)
    p.N = p.C = p.S = 1
    for i in range(ndim):
        if i < axes[0]:
            p.N *= cnp.PyArray_DIM(x, i)
        elif i < axes[1]:
            p.C *= cnp.PyArray_DIM(x, i)
        else:
            p.S *= cnp.PyArray_DIM(x, i)
    if n_groups < 0 or (n_groups > 0 and p.C % n_groups != 0):
        return False
    p.first = <int>axes[0]
    p.last = <int>axes[1]
    p.n_groups = n_groups
    p.n_parts = (p.N + ROWS_PER_PART - 1) // ROWS_PER_PART
    p.L = p.C * p.S
    if n_groups > 0:
        p.kind = BY_SAMPLE
        p.L = p.C // n_groups * p.S
    else:
        p.kind = BY_COLUMN if p.S < FEW_POSITIONS else BY_PLANE
    p.fixed = False
    p.x = p.g = p.w = p.b = p.means = p.rates = NULL
    p.out = p.mean = p.variance = p.rate = p.w_sum = p.b_sum = NULL
    return True


cdef cnp.ndarray take_by_channel(str op, str name, object value, Norm* p, cnp.ndarray x):
    """What there is one of for each channel, in the channels' shape."""
    cdef cnp.ndarray array = take(op, name, value)
    cdef int i
    cdef bint fits = cnp.PyArray_NDIM(array) == p.last - p.first
    if fits:
        for i in range(p.last - p.first):
            fits = fits and cnp.PyArray_DIM(array, i) == cnp.PyArray_DIM(x, p.first + i)
    if not fits:
        moments.check_normalize(op, x, (p.first, p.last), p.n_groups, **{name: array})
        raise RuntimeError(f"{op}(): refused this {name}")
    return array


cdef cnp.ndarray fresh_means(Norm* p, cnp.ndarray x):
    """An array for what there is one of for each mean, of the shape that broadcasts with x as `moments` views it."""
    cdef cnp.npy_intp[MAX_DIMS] dims
    cdef int ndim = cnp.PyArray_NDIM(x), i
    if p.n_groups == 0:
        for i in range(ndim):
            dims[i] = cnp.PyArray_DIM(x, i) if p.first <= i < p.last else 1
    else:
        ndim = p.first + 2 + ndim - p.last
        for i in range(ndim):
            dims[i] = cnp.PyArray_DIM(x, i) if i < p.first else 1
        dims[p.first] = p.n_groups
    return fresh(ndim, dims, REAL_TYPENUM)


cdef cnp.ndarray fresh_by_channel(Norm* p, cnp.ndarray x):
    return fresh(p.last - p.first, cnp.PyArray_DIMS(x) + p.first, REAL_TYPENUM)


cdef inline void run_norm(worker_t worker, Norm* p, Py_ssize_t n_units) noexcept nogil:
    run(worker, p, shares_of(FLOP_PER_FUNCTION * p.N * p.C * p.S, n_units))


cdef bint forward_by_column(Norm* p) noexcept nogil:
    """False if memory lacks."""
    cdef Py_ssize_t M = p.C * p.S, n_parts = 0 if p.fixed else p.n_parts
    cdef real* scratch = NULL
    if n_parts > 0 or p.S > 1:
        scratch = <real*>take_scratch((2 * n_parts + (4 if p.S > 1 else 0)) * M * sizeof(real))
        if scratch == NULL:
            return False
    p.b_parts = scratch
    p.w_parts = scratch + n_parts * M
    p.columns = scratch + 2 * n_parts * M
    if not p.fixed:
        run_norm(norm_column_sums_worker, p, n_parts)
        settle_columns(p)
    if p.S > 1:
        p.means = to_columns(p, p.means, p.columns)
        p.rates = to_columns(p, p.rates, p.columns + M)
        p.w = to_columns(p, p.w, p.columns + 2 * M)
        p.b = to_columns(p, p.b, p.columns + 3 * M)
    run_norm(norm_columns_worker, p, p.N)
    if scratch != NULL:
        give_scratch(scratch)
    return True


cdef bint forward(Norm* p) noexcept nogil:
    """False if memory lacks."""
    if p.kind == BY_SAMPLE:
        run_norm(norm_samples_worker, p, p.N * p.n_groups)
    elif p.kind == BY_PLANE:
        run_norm(norm_planes_worker, p, p.C)
    else:
        return forward_by_column(p)
    return True


cdef bint fold_parts(const real* parts, real* y, Py_ssize_t n, Py_ssize_t C, Py_ssize_t S) noexcept nogil:
    """n times C times S numbers, summed over all but the channels. False if memory lacks."""
    cdef Groups g
    g.n = 3 if S > 1 else 2
    g.sizes[0], g.sizes[1], g.sizes[2] = n, C, S
    g.reduced[0], g.reduced[1], g.reduced[2] = True, False, True
    return fold_groups(SUM, parts, y, &g)


cdef bint backward_by_sample(Norm* p) noexcept nogil:
    """False if memory lacks."""
    cdef Py_ssize_t n_parts = p.n_parts if p.S == 1 else p.N
    cdef real* scratch = NULL
    cdef bint done = True
    p.w_parts = p.w_sum
    p.b_parts = p.b_sum
    if p.w_sum != NULL and n_parts > 1:
        scratch = <real*>take_scratch(2 * n_parts * p.C * sizeof(real))
        if scratch == NULL:
            return False
        p.w_parts = scratch
        p.b_parts = scratch + n_parts * p.C
    if p.S == 1:
        run_norm(norm_row_grads_worker, p, n_parts)
    else:
        run_norm(norm_group_grads_worker, p, p.N * p.n_groups)
    if scratch != NULL:
        done = fold_parts(p.w_parts, p.w_sum, n_parts, p.C, 1) and fold_parts(p.b_parts, p.b_sum, n_parts, p.C, 1)
        give_scratch(scratch)
    return done


cdef void plan_columns(Norm* p, const real* w, const real* rates, const real* b_sum, const real* w_sum) noexcept nogil:
    """Scale, level and slope of each column, from the sums by channel."""
    cdef Py_ssize_t M = p.C * p.S, c, s, i = 0
    cdef double count = <double>p.N * p.S, scale, level = 0, slope = 0
    for c in range(p.C):
        scale = rates[c] if w == NULL else <double>w[c] * rates[c]
        if not p.fixed:
            level = scale * b_sum[c] / count
            slope = scale * rates[c] * w_sum[c] / count
        for s in range(p.S):
            p.columns[i] = <real>scale
            p.columns[M + i] = <real>level
            p.columns[2 * M + i] = <real>slope
            i += 1


cdef bint backward_by_column(Norm* p) noexcept nogil:
    """False if memory lacks."""
    cdef Py_ssize_t M = p.C * p.S
    cdef const real* rates = p.rates
    cdef bint needs_sums = p.w_sum != NULL or p.b_sum != NULL or not p.fixed, done = True
    cdef real* scratch = <real*>take_scratch((2 * p.n_parts * M + 5 * M + 2 * p.C) * sizeof(real))
    cdef real* own_sums = scratch + 2 * p.n_parts * M + 5 * M
    cdef real* w_sum = p.w_sum if p.w_sum != NULL else own_sums
    cdef real* b_sum = p.b_sum if p.b_sum != NULL else own_sums + p.C
    if scratch == NULL:
        return False
    p.b_parts = scratch
    p.w_parts = scratch + p.n_parts * M
    p.columns = scratch + 2 * p.n_parts * M
    if p.S > 1:
        p.means = to_columns(p, p.means, p.columns + 3 * M)
        p.rates = to_columns(p, rates, p.columns + 4 * M)
    if needs_sums:
        run_norm(norm_column_grad_sums_worker, p, p.n_parts)
        done = fold_parts(p.b_parts, b_sum, p.n_parts, p.C, p.S)
        if p.x != NULL:
            done = done and fold_parts(p.w_parts, w_sum, p.n_parts, p.C, p.S)
    if done and p.out != NULL:
        plan_columns(p, p.w, rates, b_sum, w_sum)
        run_norm(norm_column_grads_worker, p, p.N)
    give_scratch(scratch)
    return done


cdef bint backward(Norm* p) noexcept nogil:
    """False if memory lacks."""
    if p.kind == BY_SAMPLE:
        return backward_by_sample(p)
    if p.kind == BY_COLUMN:
        return backward_by_column(p)
    run_norm(norm_plane_grads_worker, p, p.C)
    return True


cdef int compute(str op, Norm* p, bint forwards) except -1:
    cdef bint done
    if p.N * p.C * p.S < KEEP_LOCK_BELOW:
        done = forward(p) if forwards else backward(p)
    else:
        with nogil:
            done = forward(p) if forwards else backward(p)
    if not done:
        raise MemoryError(f"{op}(): no memory for partial results")
    return 0


def normalize(x, w, b, channels, groups, eps):
    """See `plain_norm.normalize`."""
    if not is_of_this_type(x):
        if is_for_float64(x):
            return float64_kernels.normalize(x, w, b, channels, groups, eps)
        return normalized_in_numpy.normalize(x, w, b, channels, groups, eps)
    cdef str op = "normalize"
    cdef Norm p
    cdef cnp.ndarray given = take(op, "input", x), weight, bias, y, mean, variance, rate
    if not take_geometry(&p, given, channels, groups):
        return normalized_in_numpy.normalize(x, w, b, channels, groups, eps)
    if w is not None:
        weight = take_by_channel(op, "weight", w, &p, given)
        p.w = data(weight)
    if b is not None:
        bias = take_by_channel(op, "bias", b, &p, given)
        p.b = data(bias)
    y = fresh_like(given)
    mean = fresh_means(&p, given)
    variance = fresh_means(&p, given)
    rate = fresh_means(&p, given)
    p.eps = eps
    p.x = data(given)
    p.out = data(y)
    p.mean = data(mean)
    p.variance = data(variance)
    p.rate = data(rate)
    p.means = p.mean
    p.rates = p.rate
    compute(op, &p, True)
    return y, mean, variance, rate


def normalize_by(x, w, b, mean, variance, channels, eps):
    """See `plain_norm.normalize_by`."""
    if not is_of_this_type(x):
        if is_for_float64(x):
            return float64_kernels.normalize_by(x, w, b, mean, variance, channels, eps)
        return normalized_in_numpy.normalize_by(x, w, b, mean, variance, channels, eps)
    cdef str op = "normalize_by"
    cdef Norm p
    cdef Py_ssize_t c
    cdef const real* variances
    cdef cnp.ndarray given = take(op, "input", x), weight, bias, y, own_mean, rate, taken
    if not take_geometry(&p, given, channels, 0):
        return normalized_in_numpy.normalize_by(x, w, b, mean, variance, channels, eps)
    if w is not None:
        weight = take_by_channel(op, "weight", w, &p, given)
        p.w = data(weight)
    if b is not None:
        bias = take_by_channel(op, "bias", b, &p, given)
        p.b = data(bias)
    own_mean = fresh_means(&p, given)
    rate = fresh_means(&p, given)
    taken = take_by_channel(op, "mean", mean, &p, given)
    memcpy(data(own_mean), data(taken), p.C * sizeof(real))
    taken = take_by_channel(op, "variance", variance, &p, given)
    variances = data(taken)
    p.eps = eps
    for c in range(p.C):
        data(rate)[c] = <real>(1 / sqrt_of_double(variances[c] + p.eps))
    y = fresh_like(given)
    p.fixed = True
    p.x = data(given)
    p.out = data(y)
    p.means = data(own_mean)
    p.rates = data(rate)
    compute(op, &p, True)
    return y, own_mean, rate


cdef tuple gradients_of(str op, Norm* p, cnp.ndarray g, object x, object w, object mean, object rate, int wanted):
    """What is common to both gradients, once g and the geometry are taken."""
    cdef Py_ssize_t n_means = p.C if p.n_groups == 0 else p.N * p.n_groups
    cdef cnp.ndarray given, weight, means, rates, x_grad = None, w_grad = None, b_grad = None
    p.g = data(g)
    if x is not None:
        given = take(op, "input", x)
        if not same_shape(g, given):
            moments.check_gradient(op, g, shape_of(given), n_means, None, None)
        p.x = data(given)
    if mean is not None:
        means = take(op, "mean", mean)
        p.means = data(means)
    if w is not None:
        weight = take_by_channel(op, "weight", w, p, g)
        p.w = data(weight)
    rates = take(op, "rate", rate)
    p.rates = data(rates)
    if cnp.PyArray_SIZE(rates) != n_means or (mean is not None and cnp.PyArray_SIZE(means) != n_means):
        moments.check_gradient(op, g, shape_of(g), n_means, None if mean is None else means, rates)
    if wanted & OF_X:
        x_grad = fresh_like(g)
        p.out = data(x_grad)
    if wanted & (OF_W | OF_B):
        b_grad = fresh_by_channel(p, g)
        p.b_sum = data(b_grad)
        if p.x != NULL and p.means != NULL:
            w_grad = fresh_by_channel(p, g)
            p.w_sum = data(w_grad)
    compute(op, p, False)
    if wanted == OF_X | OF_W | OF_B:
        return x_grad, w_grad, b_grad
    found = []
    if wanted & OF_X:
        found.append(x_grad)
    if wanted & OF_W:
        found.append(w_grad)
    if wanted & OF_B:
        found.append(b_grad)
    return tuple(found)


def normalize_grads(g, x, w, mean, rate, channels, groups, wanted):
    """See `plain_norm.normalize_grads`."""
    if is_for_float64(g):
        return float64_kernels.normalize_grads(g, x, w, mean, rate, channels, groups, wanted)
    cdef Norm p
    cdef cnp.ndarray given
    if is_of_this_type(g) and is_of_this_type(x):
        given = take("normalize_grads", "grad", g)
        if take_geometry(&p, given, channels, groups):
            return gradients_of("normalize_grads", &p, given, x, w, mean, rate, wanted)
    return normalized_in_numpy.normalize_grads(g, x, w, mean, rate, channels, groups, wanted)


def normalize_by_grads(g, x, w, mean, rate, channels, wanted):
    """See `plain_norm.normalize_by_grads`."""
    if is_for_float64(g):
        return float64_kernels.normalize_by_grads(g, x, w, mean, rate, channels, wanted)
    cdef Norm p
    cdef cnp.ndarray given
    cdef bint has_all = x is not None and mean is not None
    if is_of_this_type(g) and (has_all or not <int>wanted & OF_W):
        given = take("normalize_by_grads", "grad", g)
        if take_geometry(&p, given, channels, 0):
            p.fixed = True
            if not has_all:
                x = mean = None
            return gradients_of("normalize_by_grads", &p, given, x, w, mean, rate, wanted)
    return normalized_in_numpy.normalize_by_grads(g, x, w, mean, rate, channels, wanted)
