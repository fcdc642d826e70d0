# The optimisers' steps as Python calls them: lists of arrays, all checked before any is written.


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


cdef inline bint overlap(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    """Whether n numbers from here and n numbers from there share memory."""
    return <uintptr_t>a < <uintptr_t>(b + n) and <uintptr_t>b < <uintptr_t>(a + n)


cdef int separate(str op, Parameter* t, tuple state_names, cnp.ndarray grad, list kept) except -1:
    """A gradient that overlaps what is written is copied; what is written must not overlap."""
    cdef int i, j
    cdef bint grad_is_written = overlap(t.p, t.g, t.n)
    for i in range(MAX_STATES):
        if t.state[i] == NULL:
            continue
        grad_is_written |= overlap(t.state[i], t.g, t.n)
        if overlap(t.state[i], t.p, t.n):
            raise RuntimeError(f"{op}(): expected params and {state_names[i]} not to share memory")
        for j in range(i):
            if t.state[j] != NULL and overlap(t.state[i], t.state[j], t.n):
                raise RuntimeError(f"{op}(): expected {state_names[j]} and {state_names[i]} not to share memory")
    if grad_is_written:
        grad = cnp.PyArray_NewCopy(grad, cnp.NPY_CORDER)
        kept.append(grad)
        t.g = data(grad)
    return 0


cdef int check_number(str op, str name, object arrays, Py_ssize_t n) except -1:
    if len(arrays) != n:
        raise RuntimeError(f"{op}(): expected {n} arrays in {name}, one a parameter, got {len(arrays)}")
    return 0


cdef Parameter* take_parameters(str op, object params, object grads, tuple state_names, tuple states, list kept,
                                list copies, double* n_numbers) except? NULL:
    """One entry a parameter, all checked before any is written; the caller frees them. NULL where there are none."""
    cdef Py_ssize_t n = len(params), i
    cdef int s
    cdef cnp.ndarray given
    cdef Parameter* found
    cdef object value
    n_numbers[0] = 0
    check_number(op, "grads", grads, n)
    for s in range(len(states)):
        if states[s] is not None:
            check_number(op, state_names[s], states[s], n)
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
            n_numbers[0] += found[i].n
            found[i].p = take_to_write(op, "params", value, <cnp.ndarray>value, kept, copies)
            given = take(op, "grads", grads[i])
            if not same_shape(given, <cnp.ndarray>value):
                words.check_same_shape(op, params=value, grads=given)
            kept.append(given)
            found[i].g = data(given)
            for s in range(MAX_STATES):
                found[i].state[s] = NULL
                if s < len(states) and states[s] is not None:
                    if states[s][i] is None:
                        raise RuntimeError(
                            f"{op}(): expected an array in {state_names[s]} for each parameter, got none")
                    found[i].state[s] = take_to_write(op, state_names[s], states[s][i], <cnp.ndarray>value, kept,
                                                      copies)
            separate(op, &found[i], state_names, given, kept)
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


cdef finish(worker_t worker, Step* step, double n_numbers, double flop_each, list copies):
    """The step itself; frees its entries."""
    with nogil:
        run(worker, step, shares_of(flop_each * n_numbers, <Py_ssize_t>n_numbers // BLOCK))
        free(step.all)
    for original, copy in copies:
        original[...] = copy


# What a number of a large parameter costs, in operations that take as long: an optimiser's step is bound by memory,
# which brings 12 bytes a number for SGD in the time of 20 operations.
cdef enum:
    SGD_FLOP = 20
    ADAM_FLOP = 40
    RMSPROP_FLOP = 30


def sgd_step(params, grads, momentum_buffers, *, double lr, double momentum, double dampening, double weight_decay,
             bint nesterov, bint maximize, first):
    """See `plain_optim.sgd_step`."""
    if some_are_for_float64(params):
        return hand_on("sgd_step", (params, grads, momentum_buffers), dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
            maximize=maximize, first=first), "first")
    cdef str op = "sgd_step"
    cdef list kept = [], copies = []
    cdef Py_ssize_t i
    cdef double n_numbers
    cdef Step s
    buffers = needed(op, "momentum_buffers", momentum != 0, momentum_buffers, params)
    cdef bint is_first = first is True
    firsts = None if isinstance(first, bool) else [bool(flag) for flag in each(op, "first", first, params)]
    s.n = len(params)
    s.all = take_parameters(op, params, grads, ("momentum_buffers",), (buffers,), kept, copies, &n_numbers)
    for i in range(s.n):
        s.all[i].first = is_first if firsts is None else <bint>firsts[i]
    s.options = (DECAYS if weight_decay != 0 else 0) | (NESTEROV if momentum != 0 and nesterov else 0)
    s.c.sign = -1 if maximize else 1
    s.c.lr = <real>lr
    s.c.weight_decay = <real>weight_decay
    s.c.momentum = <real>momentum
    s.c.undampened = <real>(1 - dampening)
    finish(sgd_worker, &s, n_numbers, SGD_FLOP, copies)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, *, step, double lr, double beta1, double beta2,
              double eps, double weight_decay, bint amsgrad, bint maximize, bint decoupled):
    """See `plain_optim.adam_step`."""
    if some_are_for_float64(params):
        return hand_on("adam_step", (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), dict(
            step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            maximize=maximize, decoupled=decoupled), "step")
    cdef str op = "adam_step"
    cdef list kept = [], copies = []
    cdef Py_ssize_t i
    cdef double n_numbers
    cdef Step s
    steps = [float(t) for t in each(op, "step", step, params)]
    for t in steps:
        if t < 1:
            raise RuntimeError(f"{op}(): expected step to count from 1, got {t:g}")
    s.n = len(params)
    s.all = take_parameters(
        op, params, grads, ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
        (needed(op, "exp_avgs", True, exp_avgs, params), needed(op, "exp_avg_sqs", True, exp_avg_sqs, params),
         needed(op, "max_exp_avg_sqs", amsgrad, max_exp_avg_sqs, params)), kept, copies, &n_numbers)
    for i in range(s.n):
        s.all[i].step_size = <real>(lr / (1 - beta1 ** <double>steps[i]))
        s.all[i].root_correction = <real>((1 - beta2 ** <double>steps[i]) ** 0.5)
    s.options = AMSGRAD if amsgrad else 0
    if weight_decay != 0:
        s.options |= SHRINKS if decoupled else DECAYS
    s.c.sign = -1 if maximize else 1
    s.c.weight_decay = <real>weight_decay
    s.c.shrink = <real>(1 - lr * weight_decay)
    s.c.to_m = <real>(1 - beta1)
    s.c.beta2 = <real>beta2
    s.c.to_v = <real>(1 - beta2)
    s.c.eps = <real>eps
    finish(adam_worker, &s, n_numbers, ADAM_FLOP, copies)


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, *, double lr, double alpha, double eps,
                 double weight_decay, double momentum, bint centered, bint maximize):
    """See `plain_optim.rmsprop_step`."""
    if some_are_for_float64(params):
        return hand_on("rmsprop_step", (params, grads, square_avgs, grad_avgs, momentum_buffers), dict(
            lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered,
            maximize=maximize), "")
    cdef str op = "rmsprop_step"
    cdef list kept = [], copies = []
    cdef double n_numbers
    cdef Step s
    s.n = len(params)
    s.all = take_parameters(
        op, params, grads, ("square_avgs", "grad_avgs", "momentum_buffers"),
        (needed(op, "square_avgs", True, square_avgs, params), needed(op, "grad_avgs", centered, grad_avgs, params),
         needed(op, "momentum_buffers", momentum > 0, momentum_buffers, params)), kept, copies, &n_numbers)
    s.options = (DECAYS if weight_decay != 0 else 0) | (CENTERED if centered else 0)
    s.options |= HAS_BUFFER if momentum > 0 else 0
    s.c.sign = -1 if maximize else 1
    s.c.lr = <real>lr
    s.c.weight_decay = <real>weight_decay
    s.c.momentum = <real>momentum
    s.c.alpha = <real>alpha
    s.c.to_v = <real>(1 - alpha)
    s.c.eps = <real>eps
    finish(rmsprop_worker, &s, n_numbers, RMSPROP_FLOP, copies)


def zero_fill(arrays):
    """See `plain_optim.zero_fill`."""
    cdef list given = list(arrays)
    cdef cnp.ndarray array
    cdef void* start
    cdef size_t n_bytes
    for value in given:
        if not (cnp.PyArray_Check(value) and (cnp.PyArray_TYPE(<cnp.ndarray>value) == cnp.NPY_FLOAT
                                              or cnp.PyArray_TYPE(<cnp.ndarray>value) == cnp.NPY_DOUBLE)):
            words.check_dtype("zero_fill", "arrays", value, None)
        if not isinstance(value, np.ndarray) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>value):
            raise RuntimeError("zero_fill(): expected arrays to be writable, got a read-only array")
    for value in given:
        array = <cnp.ndarray>value
        if not cnp.PyArray_ISONESEGMENT(array):
            array.fill(0)
            continue
        # Zeros have the same bytes in every order of bytes, and wherever they lie.
        start = cnp.PyArray_DATA(array)
        n_bytes = cnp.PyArray_NBYTES(array)
        with nogil:
            memset(start, 0, n_bytes)
