# The cross entropy of scores and class labels in one pass over the scores, and its gradient in one more.

cdef struct Labelled:
    const real* x_nc        # scores; in the gradient, their log_softmax
    real* out_nc            # log_softmax; in the gradient, the gradient
    const real* weight_c    # NULL where all are 1
    const cnp.int64_t* target_n
    real* loss_n            # in the gradient, what each loss gets: one number, unless each_loss
    bint each_loss
    Py_ssize_t N, C, ignore_index
    double smoothing, all_weights  # Σ weight


cdef inline double weight_of(Labelled* l, Py_ssize_t c) noexcept nogil:
    return 1.0 if l.weight_c == NULL else l.weight_c[c]


cdef inline double weighted_sum(Labelled* l, const real* x_c) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t c
    for c in range(l.C):
        total += weight_of(l, c) * x_c[c]
    return total


cdef void cross_entropy_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Labelled* l = <Labelled*>job
    cdef Py_ssize_t n, t
    cdef real* log_p
    cdef double loss
    for n in range(start_of(share, n_shares, l.N), start_of(share + 1, n_shares, l.N)):
        log_p = l.out_nc + n * l.C
        t = l.target_n[n]
        row_along(LOG_SOFTMAX, l.x_nc + n * l.C, NULL, log_p, l.C)
        if t == l.ignore_index:
            l.loss_n[n] = 0
            continue
        loss = (1 - l.smoothing) * weight_of(l, t) * log_p[t]
        if l.smoothing != 0:
            loss += l.smoothing / l.C * weighted_sum(l, log_p)
        l.loss_n[n] = <real>-loss


cdef void cross_entropy_grad_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """k·(S·p_c - s/C·w_c - (1 - s)·w_t·[c = t]) with S = (1 - s)·w_t + s/C·Σ w, for what the loss gets, k."""
    cdef Labelled* l = <Labelled*>job
    cdef Py_ssize_t n, t, c, i
    cdef real* out
    cdef const real* log_p
    cdef double k, of_target, even = l.smoothing / l.C
    cdef vec scale
    for n in range(start_of(share, n_shares, l.N), start_of(share + 1, n_shares, l.N)):
        out = l.out_nc + n * l.C
        log_p = l.x_nc + n * l.C
        t = l.target_n[n]
        if t == l.ignore_index:
            memset(out, 0, l.C * sizeof(real))
            continue
        k = l.loss_n[n if l.each_loss else 0]
        of_target = k * (1 - l.smoothing) * weight_of(l, t)
        scale = VSET1(<real>(of_target + k * even * l.all_weights))
        i = 0
        while i < l.C:
            store(out + i, exp_of(load(log_p + i, min(l.C - i, VL))) * scale, min(l.C - i, VL))
            i += VL
        if l.smoothing != 0:
            for c in range(l.C):
                out[c] -= <real>(k * even * weight_of(l, c))
        out[t] -= <real>of_target


cdef double take_labels(Labelled* l, str op, cnp.ndarray x, object target, object weight, object ignore_index,
                        object reduction, object smoothing, list kept) except -1:
    """Fills in what forward and gradient share; what a mean divides by: the weights of the targets that count."""
    cdef cnp.ndarray labels, weights
    cdef Py_ssize_t n, t
    cdef double total = 0
    if (
        cnp.PyArray_NDIM(x) != 2 or weight is not None or not cnp.PyArray_CheckExact(target)
        or cnp.PyArray_TYPE(<cnp.ndarray>target) != cnp.NPY_INT64 or cnp.PyArray_NDIM(<cnp.ndarray>target) != 1
        or cnp.PyArray_DIM(<cnp.ndarray>target, 0) != cnp.PyArray_DIM(x, 0)
        or (reduction != "mean" and reduction != "sum" and reduction != "none")
    ):
        words.check_cross_entropy(op, x, target, weight, reduction)
    labels = cnp.PyArray_FROM_OTF(target, cnp.NPY_INT64, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_NOTSWAPPED)
    kept.append(labels)
    l.N = cnp.PyArray_DIM(x, 0)
    l.C = cnp.PyArray_DIM(x, 1)
    l.x_nc = data(x)
    l.target_n = <const cnp.int64_t*>DATA_OF(labels)
    l.ignore_index = ignore_index
    l.smoothing = smoothing
    l.weight_c = NULL
    l.all_weights = l.C
    if weight is not None:
        weights = take(op, "weight", weight)
        kept.append(weights)
        l.weight_c = data(weights)
        l.all_weights = 0
        for n in range(l.C):
            l.all_weights += l.weight_c[n]
    for n in range(l.N):
        t = l.target_n[n]
        if t == l.ignore_index:
            continue
        if not 0 <= t < l.C:
            raise IndexError(f"Target {t} is out of bounds.")
        total += weight_of(l, t)
    return total


def cross_entropy(x, target, weight, ignore_index, reduction, smoothing):
    """See `plain_loss.cross_entropy`."""
    if is_for_float64(x):
        return float64_kernels.cross_entropy(x, target, weight, ignore_index, reduction, smoothing)
    cdef cnp.ndarray x_nc = take("cross_entropy", "input", x), log_p, losses, loss
    cdef Labelled l
    cdef cnp.npy_intp N
    cdef list kept = []
    cdef double total = take_labels(&l, "cross_entropy", x_nc, target, weight, ignore_index, reduction, smoothing, kept)
    N = l.N
    log_p = fresh_like(x_nc)
    losses = fresh(1, &N, REAL_TYPENUM)
    l.out_nc = data(log_p)
    l.loss_n = data(losses)
    with nogil:
        run(cross_entropy_worker, &l, shares_of(FLOP_PER_FUNCTION * l.N * l.C, l.N))
    if reduction == "none":
        return losses, log_p, total
    loss = fresh(0, NULL, REAL_TYPENUM)
    data(loss)[0] = sum_row(l.loss_n, N) if N > 0 else <real>0
    if reduction == "mean":
        data(loss)[0] = <real>(data(loss)[0] / total) if total != 0 else <real>NAN
    return loss, log_p, total


def cross_entropy_grad(g, log_p, target, weight, ignore_index, reduction, smoothing, total):
    """See `plain_loss.cross_entropy_grad`."""
    if is_for_float64(log_p):
        return float64_kernels.cross_entropy_grad(
            g, log_p, target, weight, ignore_index, reduction, smoothing, total)
    cdef cnp.ndarray g_n = take("cross_entropy_grad", "grad", g)
    cdef cnp.ndarray log_p_nc = take("cross_entropy_grad", "log_p", log_p), x_grad
    cdef Labelled l
    cdef real share
    cdef list kept = []
    take_labels(&l, "cross_entropy_grad", log_p_nc, target, weight, ignore_index, reduction, smoothing, kept)
    l.each_loss = reduction == "none"
    if cnp.PyArray_NDIM(g_n) != l.each_loss or (l.each_loss and cnp.PyArray_DIM(g_n, 0) != l.N):
        words.check_shape_of_loss("cross_entropy_grad", g_n, l.N if l.each_loss else None)
    x_grad = fresh_like(log_p_nc)
    l.out_nc = data(x_grad)
    l.loss_n = data(g_n)
    if reduction == "mean":
        share = <real>(l.loss_n[0] / <double>total)
        l.loss_n = &share
    with nogil:
        run(cross_entropy_grad_worker, &l, shares_of(FLOP_PER_FUNCTION * l.N * l.C, l.N))
    return x_grad
