# Arithmetic, comparisons and elementary functions, element by element. What is no contiguous array of this module's
# type goes on to `plain_elementwise`, which says what each function is.
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsDouble

from scalargrad.kernels import plain_elementwise as in_numpy

cdef enum:
    MAX_DIMS = 64
    KEEP_LOCK_BELOW = 1 << 13  # releasing the interpreter's lock costs 22 ns, which is as much as adding 500 numbers

# What threads are worth, in units of SERIAL_BELOW_FLOP.
cdef double FLOP_PER_MOVE = 4, FLOP_PER_FUNCTION = 20

cdef object real_type = DTYPE.type


cdef inline bint is_ours(object x):
    """Whether x is an array that the loops can read as it lies."""
    return (
        cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == REAL_TYPENUM
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x)
    )


cdef inline object as_it_lies(object x):
    """x, but of an array whose axes lie in another order, a copy that the loops can read."""
    cdef cnp.ndarray copy
    if is_ours(x) or not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(<cnp.ndarray>x) != REAL_TYPENUM:
        return x
    if not cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>x):
        return x
    copy = turned(<cnp.ndarray>x)
    return x if copy is None else copy


cdef inline bint take_number(object x, real* number) except -1:
    """Whether x is a number that takes this module's type beside an array: Python's, or NumPy's of this type."""
    cdef double value
    if PyFloat_CheckExact(x):
        number[0] = <real>PyFloat_AS_DOUBLE(x)
        return True
    if PyLong_CheckExact(x):
        value = PyLong_AsDouble(x)
        if value == -1.0 and PyErr_Occurred():
            PyErr_Clear()  # NumPy says it better
            return False
    elif type(x) is real_type:
        value = x
    else:
        return False
    number[0] = <real>value
    return True


cdef elsewhere(str name, object a, object b):
    """What these loops cannot do: the module for float64 if that is an operand's type, and NumPy for the rest."""
    if float64_kernels is not None and (is_for_float64(a) or is_for_float64(b)):
        return getattr(float64_kernels, name)(a, b)
    return getattr(in_numpy, name)(a, b)


cdef binary(int op, str name, object a, object b):
    """The result of two operands, at least one of them an array."""
    a = as_it_lies(a)
    b = as_it_lies(b)
    cdef Broadcast p
    cdef cnp.npy_intp[MAX_DIMS] dims
    cdef real number
    cdef int ndim
    cdef Py_ssize_t n_entries
    cdef cnp.ndarray y
    if is_ours(a):
        p.a = data(<cnp.ndarray>a)
        if is_ours(b):
            p.b = data(<cnp.ndarray>b)
            ndim = plan_loops(&p, cnp.PyArray_NDIM(<cnp.ndarray>a), cnp.PyArray_DIMS(<cnp.ndarray>a),
                              cnp.PyArray_NDIM(<cnp.ndarray>b), cnp.PyArray_DIMS(<cnp.ndarray>b), dims)
        elif take_number(b, &number):
            p.b = &number
            ndim = plan_loops(&p, cnp.PyArray_NDIM(<cnp.ndarray>a), cnp.PyArray_DIMS(<cnp.ndarray>a), 0, NULL, dims)
        else:
            return elsewhere(name, a, b)
    elif is_ours(b) and take_number(a, &number):
        p.a = &number
        p.b = data(<cnp.ndarray>b)
        ndim = plan_loops(&p, 0, NULL, cnp.PyArray_NDIM(<cnp.ndarray>b), cnp.PyArray_DIMS(<cnp.ndarray>b), dims)
    else:
        return elsewhere(name, a, b)
    if ndim < 0:
        return getattr(in_numpy, name)(a, b)
    p.op = op
    p.out_step = 1 if op >= EQ else <Py_ssize_t>sizeof(real)
    y = fresh(ndim, dims, cnp.NPY_BOOL if op >= EQ else REAL_TYPENUM)
    p.out = <char*>DATA_OF(y)
    n_entries = p.sizes[0] * p.sizes[1] * p.sizes[2]
    if n_entries < KEEP_LOCK_BELOW:
        broadcast_worker(&p, 0, 1)
    else:
        with nogil:
            run(broadcast_worker, &p, shares_of(FLOP_PER_MOVE * n_entries, n_entries))
    return y


cdef struct Elements:
    int op
    const real* x
    real* out
    Py_ssize_t n


cdef void elements_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Elements* e = <Elements*>job
    cdef Py_ssize_t start = start_of(share, n_shares, e.n)
    unary_row(e.op, e.x + start, e.out + start, start_of(share + 1, n_shares, e.n) - start)


cdef unary_of(int op, cnp.ndarray x, double flop):
    cdef Elements e
    cdef cnp.ndarray y = fresh_like(x)
    e.op = op
    e.x = data(x)
    e.out = data(y)
    e.n = cnp.PyArray_SIZE(x)
    if e.n < KEEP_LOCK_BELOW:
        elements_worker(&e, 0, 1)
    else:
        with nogil:
            run(elements_worker, &e, shares_of(flop * e.n, e.n))
    return y


cdef unary(int op, str name, object x, double flop):
    """The result of one operand, an array in any layout."""
    if is_ours(x):
        return unary_of(op, <cnp.ndarray>x, flop)
    if is_for_float64(x):
        return getattr(float64_kernels, name)(x)
    if cnp.PyArray_CheckExact(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == REAL_TYPENUM:
        return unary_of(op, take(name, "input", x), flop)
    return getattr(in_numpy, name)(x)


def add(a, b):
    """See `plain_elementwise.add`."""
    return binary(ADD, "add", a, b)


def sub(a, b):
    """See `plain_elementwise.sub`."""
    return binary(SUB, "sub", a, b)


def mul(a, b):
    """See `plain_elementwise.mul`."""
    return binary(MUL, "mul", a, b)


def div(a, b):
    """See `plain_elementwise.div`."""
    return binary(DIV, "div", a, b)


def maximum(a, b):
    """See `plain_elementwise.maximum`."""
    return binary(MAXIMUM, "maximum", a, b)


def minimum(a, b):
    """See `plain_elementwise.minimum`."""
    return binary(MINIMUM, "minimum", a, b)


def eq(a, b):
    """See `plain_elementwise.eq`."""
    return binary(EQ, "eq", a, b)


def ne(a, b):
    """See `plain_elementwise.ne`."""
    return binary(NE, "ne", a, b)


def lt(a, b):
    """See `plain_elementwise.lt`."""
    return binary(LT, "lt", a, b)


def le(a, b):
    """See `plain_elementwise.le`."""
    return binary(LE, "le", a, b)


def gt(a, b):
    """See `plain_elementwise.gt`."""
    return binary(GT, "gt", a, b)


def ge(a, b):
    """See `plain_elementwise.ge`."""
    return binary(GE, "ge", a, b)


def neg(x):
    """See `plain_elementwise.neg`."""
    return unary(NEG, "neg", x, FLOP_PER_MOVE)


def absolute(x):
    """See `plain_elementwise.absolute`."""
    return unary(ABSOLUTE, "absolute", x, FLOP_PER_MOVE)


def sign(x):
    """See `plain_elementwise.sign`."""
    return unary(SIGN, "sign", x, FLOP_PER_MOVE)


def sqrt(x):
    """See `plain_elementwise.sqrt`."""
    return unary(SQRT_OF, "sqrt", x, FLOP_PER_MOVE)


def exp(x):
    """See `plain_elementwise.exp`."""
    return unary(EXP_OF, "exp", x, FLOP_PER_FUNCTION)


def expm1(x):
    """See `plain_elementwise.expm1`."""
    return unary(EXPM1_OF, "expm1", x, FLOP_PER_FUNCTION)


def log(x):
    """See `plain_elementwise.log`."""
    return unary(LOG_OF, "log", x, FLOP_PER_FUNCTION)


def log1p(x):
    """See `plain_elementwise.log1p`."""
    return unary(LOG1P_OF, "log1p", x, FLOP_PER_FUNCTION)


def tanh(x):
    """See `plain_elementwise.tanh`."""
    return unary(TANH_OF, "tanh", x, FLOP_PER_FUNCTION)


def erf(x):
    """See `plain_elementwise.erf`."""
    return unary(ERF_OF, "erf", x, FLOP_PER_FUNCTION)


def sigmoid(x):
    """See `plain_elementwise.sigmoid`."""
    return unary(SIGMOID_OF, "sigmoid", x, FLOP_PER_FUNCTION)


def sigmoid_grad(g, y):
    """See `plain_elementwise.sigmoid_grad`."""
    return binary(SIGMOID_GRAD, "sigmoid_grad", g, y)


cdef struct Selection:
    const u8* condition
    const real* a
    real* out
    Py_ssize_t n
    bint a_moves


cdef void selection_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Selection* s = <Selection*>job
    cdef Py_ssize_t start = start_of(share, n_shares, s.n), n = start_of(share + 1, n_shares, s.n) - start
    if s.a_moves:
        select_row(s.condition + start, s.a + start, s.out + start, n, True)
    else:
        select_row(s.condition + start, s.a, s.out + start, n, False)


def select(condition, a):
    """See `plain_elementwise.select`."""
    cdef Selection s
    cdef cnp.ndarray y
    if (
        not is_ours(a) or not cnp.PyArray_CheckExact(condition)
        or cnp.PyArray_TYPE(<cnp.ndarray>condition) != cnp.NPY_BOOL
        or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>condition)
        or cnp.PyArray_NDIM(<cnp.ndarray>a) and not same_shape(<cnp.ndarray>condition, <cnp.ndarray>a)
    ):
        return elsewhere("select", condition, a)
    y = fresh(cnp.PyArray_NDIM(<cnp.ndarray>condition), cnp.PyArray_DIMS(<cnp.ndarray>condition), REAL_TYPENUM)
    s.condition = <const u8*>DATA_OF(condition)
    s.a = data(<cnp.ndarray>a)
    s.a_moves = cnp.PyArray_NDIM(<cnp.ndarray>a) > 0
    s.out = data(y)
    s.n = cnp.PyArray_SIZE(y)
    if s.n == 0:
        return y
    if s.n < KEEP_LOCK_BELOW:
        selection_worker(&s, 0, 1)
    else:
        with nogil:
            run(selection_worker, &s, shares_of(FLOP_PER_MOVE * s.n, s.n))
    return y


def power(a, n):
    """See `plain_elementwise.power`."""
    cdef real exponent
    if is_ours(a) and take_number(n, &exponent):
        if exponent == 2:
            return unary_of(SQUARE, <cnp.ndarray>a, FLOP_PER_MOVE)
        if exponent == 3:
            return unary_of(CUBE, <cnp.ndarray>a, FLOP_PER_MOVE)
        if exponent == <real>0.5:
            return unary_of(SQRT_OF, <cnp.ndarray>a, FLOP_PER_MOVE)
        if exponent == -1:
            return unary_of(RECIPROCAL, <cnp.ndarray>a, FLOP_PER_MOVE)
        if exponent == -2:
            return unary_of(RECIPROCAL_OF_SQUARE, <cnp.ndarray>a, FLOP_PER_MOVE)
    return elsewhere("power", a, n)


def accumulate(a, b):
    """See `plain_elementwise.accumulate`."""
    cdef Broadcast p
    cdef Py_ssize_t n
    if (
        not is_ours(a) or not is_ours(b) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>a)
        or not same_shape(<cnp.ndarray>a, <cnp.ndarray>b)
    ):
        return elsewhere("accumulate", a, b)
    n = cnp.PyArray_SIZE(<cnp.ndarray>a)
    p.a = data(<cnp.ndarray>a)
    p.b = data(<cnp.ndarray>b)
    if p.a != p.b and p.a < p.b + n and p.b < p.a + n:
        return in_numpy.accumulate(a, b)  # they overlap, and what is written must not be read again
    if n == 0:
        return a
    p.op = ADD
    p.moving[0] = FIRST_MOVES | SECOND_MOVES
    p.sizes[0] = n
    p.sizes[1] = p.sizes[2] = p.a_steps[0] = p.b_steps[0] = 1
    p.out = <char*>p.a
    p.out_step = sizeof(real)
    if n < KEEP_LOCK_BELOW:
        broadcast_worker(&p, 0, 1)
    else:
        with nogil:
            run(broadcast_worker, &p, shares_of(FLOP_PER_MOVE * n, n))
    return a


def relu(x):
    """See `plain.relu`."""
    if is_ours(x):
        return unary_of(RELU, <cnp.ndarray>x, FLOP_PER_MOVE)
    if is_for_float64(x):
        return float64_kernels.relu(x)
    return unary_of(RELU, take("relu", "input", x), FLOP_PER_MOVE)


def relu_grad(g, y):
    """See `plain.relu_grad`."""
    if is_for_float64(g):
        return float64_kernels.relu_grad(g, y)
    cdef cnp.ndarray g_given = take("relu_grad", "grad", g), y_given = take("relu_grad", "result", y)
    if not same_shape(g_given, y_given):
        words.check_same_shape("relu_grad", grad=g_given, result=y_given)
    return binary(RELU_GRAD, "relu_grad", g_given, y_given)
