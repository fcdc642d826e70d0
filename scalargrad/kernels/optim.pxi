# The optimisers' steps: all parameters in one call, every array read and written once. Formulas as in `plain_optim`.

cdef enum:
    MAX_STATES = 3

cdef struct Parameter:
    Py_ssize_t n
    real* p
    const real* g
    real* state[MAX_STATES]  # NULL where an optimiser runs without
    bint first
    double step


cdef real* take_to_write(str op, str name, object value, cnp.ndarray like, list kept, list copies) except NULL:
    """Where to update `value`: in place, or in a copy that goes back to it at the end."""
    cdef cnp.ndarray array
    if cnp.PyArray_Check(value) and cnp.PyArray_TYPE(<cnp.ndarray>value) == REAL_TYPENUM:
        if cnp.PyArray_ISCARRAY(<cnp.ndarray>value):
            array = <cnp.ndarray>value
            if not same_shape(array, like):
                words.check_same_shape(op, params=like, **{name: array})
            return data(array)
    words.check_dtype(op, name, value, DTYPE)
    if not isinstance(value, np.ndarray) or not value.flags.writeable:
        raise RuntimeError(f"{op}(): expected {name} to be writable, got a read-only array")
    words.check_same_shape(op, params=like, **{name: value})
    array = np.array(value, DTYPE, order="C")
    kept.append(array)
    copies.append((value, array))
    return data(array)


cdef Parameter* take_parameters(str op, object params, object grads, tuple state_names, tuple states, list kept,
                                list copies) except? NULL:
    """One entry a parameter, all checked before any is written; the caller frees them. NULL where there are none."""
    cdef Py_ssize_t n = len(params), i
    cdef int s
    cdef cnp.ndarray given
    cdef Parameter* found
    cdef object value
    for name, arrays in (("grads", grads), *zip(state_names, states)):
        if arrays is not None and len(arrays) != n:
            raise RuntimeError(f"{op}(): expected {n} arrays in {name}, one a parameter, got {len(arrays)}")
    if n == 0:
        return NULL
    found = <Parameter*>malloc(n * sizeof(Parameter))
    if found == NULL:
        raise MemoryError(f"{op}(): no memory for {n} parameters")
    try:
        for i in range(n):
            value = params[i]
            if not cnp.PyArray_Check(value):
                words.as_array(op, "params", value)
                raise RuntimeError(f"{op}(): expected params to be writable, got a read-only array")
            found[i].n = cnp.PyArray_SIZE(<cnp.ndarray>value)
            found[i].p = take_to_write(op, "params", value, <cnp.ndarray>value, kept, copies)
            given = take(op, "grads", grads[i])
            if not same_shape(given, <cnp.ndarray>value):
                words.check_same_shape(op, params=value, grads=given)
            kept.append(given)
            found[i].g = data(given)
            found[i].first = False
            found[i].step = 0
            for s in range(MAX_STATES):
                found[i].state[s] = NULL
                if s < len(states) and states[s] is not None:
                    if states[s][i] is None:
                        raise RuntimeError(
                            f"{op}(): expected an array in {state_names[s]} for each parameter, got none")
                    found[i].state[s] = take_to_write(op, state_names[s], states[s][i], <cnp.ndarray>value, kept,
                                                      copies)
    except BaseException:
        free(found)
        raise
    return found


cdef needed(str op, str name, bint is_needed, object arrays, object params):
    """The arrays where they are needed, None where they are not."""
    if not is_needed:
        return None
    if len(params) and not arrays:
        raise RuntimeError(f"{op}(): expected an array in {name} for each parameter, got none")
    return arrays


cdef each(str op, str name, object value, object params):
    """One value a parameter: a sequence as it is, anything else for all of them."""
    if not isinstance(value, (list, tuple)):
        return [value] * len(params)
    if len(value) != len(params):
        raise RuntimeError(f"{op}(): expected {len(params)} values in {name}, one a parameter, got {len(value)}")
    return value


cdef bint some_are_for_float64(object params):
    for value in params:
        if is_for_float64(value):
            return True
    return False


cdef hand_on(str op, tuple lists, dict options, str each_name):
    """The step for parameters of which some are float64: those by the module for float64, the others here."""
    params = lists[0]
    options[each_name] = each(op, each_name, options[each_name], params) if each_name else None
    for kernels, takes_float64 in ((float64_kernels.__dict__, True), (globals(), False)):
        which = [i for i in range(len(params)) if is_for_float64(params[i]) == takes_float64]
        if which:
            chosen = [None if not arrays else [arrays[i] for i in which] for arrays in lists]
            here = dict(options)
            if each_name:
                here[each_name] = [options[each_name][i] for i in which]
            else:
                del here[each_name]
            kernels[op](*chosen, **here)


cdef inline real descent(real p, real g, real weight_decay, bint maximize) noexcept nogil:
    """±g + weight_decay·p. A decay of 0 is left out: 0 times an infinite weight would be NaN."""
    cdef real d = -g if maximize else g
    return d + weight_decay * p if weight_decay != 0 else d


cdef void sgd_plain(Parameter* t, real lr, real weight_decay, bint maximize) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(t.n):
        t.p[i] -= lr * descent(t.p[i], t.g[i], weight_decay, maximize)


cdef void sgd_momentum(Parameter* t, real lr, real momentum, real undampened, real weight_decay, bint nesterov,
                       bint maximize) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d
    cdef real* buffer = t.state[0]
    for i in range(t.n):
        d = descent(t.p[i], t.g[i], weight_decay, maximize)
        buffer[i] = d if t.first else momentum * buffer[i] + undampened * d
        t.p[i] -= lr * (d + momentum * buffer[i] if nesterov else buffer[i])


def sgd_step(params, grads, momentum_buffers, *, double lr, double momentum, double dampening, double weight_decay,
             bint nesterov, bint maximize, first):
    """See `plain_optim.sgd_step`."""
    if some_are_for_float64(params):
        return hand_on("sgd_step", (params, grads, momentum_buffers), dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
            maximize=maximize, first=first), "first")
    cdef str op = "sgd_step"
    cdef list kept = [], copies = []
    cdef Py_ssize_t i, n = len(params)
    buffers = needed(op, "momentum_buffers", momentum != 0, momentum_buffers, params)
    firsts = [bool(flag) for flag in each(op, "first", first, params)]
    cdef Parameter* all = take_parameters(op, params, grads, ("momentum_buffers",), (buffers,), kept, copies)
    for i in range(n):
        all[i].first = firsts[i]
    with nogil:
        for i in range(n):
            if momentum == 0:
                sgd_plain(&all[i], <real>lr, <real>weight_decay, maximize)
            else:
                sgd_momentum(&all[i], <real>lr, <real>momentum, <real>(1 - dampening), <real>weight_decay, nesterov,
                             maximize)
        free(all)
    for original, copy in copies:
        original[...] = copy


cdef struct AdamOptions:
    double lr, beta1, beta2
    real eps, weight_decay
    bint maximize, decoupled


cdef void adam(Parameter* t, const AdamOptions* o) noexcept nogil:
    cdef real* m = t.state[0]
    cdef real* v = t.state[1]
    cdef real* v_max = t.state[2]
    cdef real step_size = <real>(o.lr / (1 - o.beta1 ** t.step))
    cdef real root_correction = <real>((1 - o.beta2 ** t.step) ** 0.5)
    cdef real shrink = <real>(1 - o.lr * o.weight_decay), to_m = <real>(1 - o.beta1), to_v = <real>(1 - o.beta2)
    cdef real beta2 = <real>o.beta2, decay = 0 if o.decoupled else o.weight_decay, d, p, top
    cdef bint shrinks = o.decoupled and o.weight_decay != 0
    cdef Py_ssize_t i
    for i in range(t.n):
        p = t.p[i]
        d = descent(p, t.g[i], decay, o.maximize)
        if shrinks:
            p *= shrink
        m[i] += to_m * (d - m[i])
        v[i] = beta2 * v[i] + to_v * (d * d)
        top = v[i]
        if v_max != NULL:
            # NaN stays, as it does in NumPy's maximum.
            top = v_max[i] if v_max[i] > top or v_max[i] != v_max[i] else top
            v_max[i] = top
        t.p[i] = p - step_size * m[i] / (SQRT(top) / root_correction + o.eps)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, *, step, double lr, double beta1, double beta2,
              double eps, double weight_decay, bint amsgrad, bint maximize, bint decoupled):
    """See `plain_optim.adam_step`."""
    if some_are_for_float64(params):
        return hand_on("adam_step", (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), dict(
            step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            maximize=maximize, decoupled=decoupled), "step")
    cdef str op = "adam_step"
    cdef list kept = [], copies = []
    cdef Py_ssize_t i, n = len(params)
    cdef AdamOptions o
    o.lr = lr
    o.beta1 = beta1
    o.beta2 = beta2
    o.eps = <real>eps
    o.weight_decay = <real>weight_decay
    o.maximize = maximize
    o.decoupled = decoupled
    steps = [float(t) for t in each(op, "step", step, params)]
    for t in steps:
        if t < 1:
            raise RuntimeError(f"{op}(): expected step to count from 1, got {t:g}")
    cdef Parameter* all = take_parameters(
        op, params, grads, ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
        (needed(op, "exp_avgs", True, exp_avgs, params), needed(op, "exp_avg_sqs", True, exp_avg_sqs, params),
         needed(op, "max_exp_avg_sqs", amsgrad, max_exp_avg_sqs, params)), kept, copies)
    for i in range(n):
        all[i].step = steps[i]
    with nogil:
        for i in range(n):
            adam(&all[i], &o)
        free(all)
    for original, copy in copies:
        original[...] = copy


cdef void rmsprop(Parameter* t, real lr, real alpha, real rest, real eps, real weight_decay, real momentum,
                  bint maximize) noexcept nogil:
    cdef real* v = t.state[0]
    cdef real* mean = t.state[1]
    cdef real* buffer = t.state[2]
    cdef real d, square
    cdef Py_ssize_t i
    for i in range(t.n):
        d = descent(t.p[i], t.g[i], weight_decay, maximize)
        v[i] = alpha * v[i] + rest * (d * d)
        square = v[i]
        if mean != NULL:
            mean[i] += rest * (d - mean[i])
            square -= mean[i] * mean[i]
        d = d / (SQRT(square) + eps)
        if buffer != NULL:
            buffer[i] = momentum * buffer[i] + d
            d = buffer[i]
        t.p[i] -= lr * d


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, *, double lr, double alpha, double eps,
                 double weight_decay, double momentum, bint centered, bint maximize):
    """See `plain_optim.rmsprop_step`."""
    if some_are_for_float64(params):
        return hand_on("rmsprop_step", (params, grads, square_avgs, grad_avgs, momentum_buffers), dict(
            lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered,
            maximize=maximize), "")
    cdef str op = "rmsprop_step"
    cdef list kept = [], copies = []
    cdef Py_ssize_t i, n = len(params)
    cdef Parameter* all = take_parameters(
        op, params, grads, ("square_avgs", "grad_avgs", "momentum_buffers"),
        (needed(op, "square_avgs", True, square_avgs, params), needed(op, "grad_avgs", centered, grad_avgs, params),
         needed(op, "momentum_buffers", momentum > 0, momentum_buffers, params)), kept, copies)
    with nogil:
        for i in range(n):
            rmsprop(&all[i], <real>lr, <real>alpha, <real>(1 - alpha), <real>eps, <real>weight_decay, <real>momentum,
                    maximize)
        free(all)
    for original, copy in copies:
        original[...] = copy
