# Activations with a kernel of their own, and what they send back: functions of one element with up to two parameters.
# What is no contiguous array of this module's type goes on to `plain_activation`, which says what each function is.
from scalargrad.kernels import plain_activation as activated_in_numpy

cdef enum:
    LEAKY_RELU, ELU, SOFTPLUS, LOG_SIGMOID, SILU, GELU, GELU_TANH, HARDTANH

cdef extern from *:
    """
    #define DENSITY_AT_0 ((real)0.39894228040143267794)  /* the normal distribution's, 1 / √(2π) */
    #define SQRT_2_OVER_PI ((real)0.79788456080286535588)
    #define CUBIC ((real)0.044715)                       /* Hendrycks and Gimpel, 2016 */
    """
    real DENSITY_AT_0, SQRT_2_OVER_PI, CUBIC


cdef inline vec activated(int op, vec x, vec p, vec q) noexcept nogil:
    cdef vec z
    if op == LEAKY_RELU:
        return VSELECT(VLESS(VZERO, x), x, x * p)
    if op == ELU:
        return VSELECT(VLESS(VZERO, x), x, p * expm1_of(x))
    if op == SOFTPLUS:
        z = x * p
        return VSELECT(VLESS(q, z), x, (VMAX(VZERO, z) + log1p_of(exp_of(-size_of_each(z)))) / p)
    if op == LOG_SIGMOID:
        return VMIN(VZERO, x) - log1p_of(exp_of(-size_of_each(x)))
    if op == SILU:
        return x * sigmoid_of(x)
    if op == GELU:
        return x * normal_of(x, &z)
    if op == GELU_TANH:
        return x * <real>0.5 * (<real>1 + tanh_of((x + x * x * x * CUBIC) * SQRT_2_OVER_PI))
    return VMIN(q, VMAX(p, x))  # HARDTANH: both give their second operand where one is NaN


cdef inline vec sent_back(int op, vec g, vec x, vec p, vec q) noexcept nogil:
    cdef vec s, slope
    if op == LEAKY_RELU:
        return VSELECT(VLESS(VZERO, x), g, g * p)
    if op == ELU:
        return VSELECT(VLESS(VZERO, x), g, g * (p * exp_of(x)))
    if op == SOFTPLUS:
        return VSELECT(VLESS(q, x * p), g, g * sigmoid_of(x * p))
    if op == LOG_SIGMOID:
        return g * sigmoid_of(-x)
    if op == SILU:
        s = sigmoid_of(x)
        return g * (s * (x * (VSET1(<real>1) - s) + <real>1))
    if op == GELU:
        s = normal_of(x, &slope)
        return g * (s + x * slope * DENSITY_AT_0)
    if op == GELU_TANH:
        s = tanh_of((x + x * x * x * CUBIC) * SQRT_2_OVER_PI)
        slope = (x * x * (<real>3 * CUBIC) + <real>1) * SQRT_2_OVER_PI
        return g * (<real>0.5 * (s + <real>1) + <real>0.5 * x * (VSET1(<real>1) - s * s) * slope)
    return VANDNOT(VANDNOT(g, VLESSEQ(x, p)), VLESSEQ(q, x))


# g is absent on the way forward.
cdef struct Activation:
    int op
    const real* g
    const real* x
    real* out
    real p, q
    Py_ssize_t n


cdef inline void activate(int op, Activation* a, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    cdef vec p = VSET1(a.p), q = VSET1(a.q)
    cdef Py_ssize_t i = start, lanes
    while i + VL <= end:
        if a.g == NULL:
            (<uvec*>(a.out + i))[0] = activated(op, at(a.x + i), p, q)
        else:
            (<uvec*>(a.out + i))[0] = sent_back(op, at(a.g + i), at(a.x + i), p, q)
        i += VL
    lanes = end - i
    if lanes > 0:
        if a.g == NULL:
            VSTOREN(a.out + i, activated(op, VLOADN(a.x + i, lanes), p, q), lanes)
        else:
            VSTOREN(a.out + i, sent_back(op, VLOADN(a.g + i, lanes), VLOADN(a.x + i, lanes), p, q), lanes)


cdef void activation_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    """Each case is a loop of its own."""
    cdef Activation* a = <Activation*>job
    cdef Py_ssize_t start = start_of(share, n_shares, a.n), end = start_of(share + 1, n_shares, a.n)
    if a.op == LEAKY_RELU:
        activate(LEAKY_RELU, a, start, end)
    elif a.op == ELU:
        activate(ELU, a, start, end)
    elif a.op == SOFTPLUS:
        activate(SOFTPLUS, a, start, end)
    elif a.op == LOG_SIGMOID:
        activate(LOG_SIGMOID, a, start, end)
    elif a.op == SILU:
        activate(SILU, a, start, end)
    elif a.op == GELU:
        activate(GELU, a, start, end)
    elif a.op == GELU_TANH:
        activate(GELU_TANH, a, start, end)
    else:
        activate(HARDTANH, a, start, end)


cdef cnp.ndarray activation(int op, str name, object g, object x, double p, double q):
    """The activation of x, or what it makes of g. None where NumPy has to do it."""
    cdef Activation a
    cdef cnp.ndarray given, y, upstream = None
    if not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(<cnp.ndarray>x) != REAL_TYPENUM:
        return None
    given = take(name, "input", x)
    if g is not None:
        if not cnp.PyArray_CheckExact(g) or cnp.PyArray_TYPE(<cnp.ndarray>g) != REAL_TYPENUM:
            return None
        if not same_shape(<cnp.ndarray>g, given):
            return None
        upstream = take(name, "grad", g)
    y = fresh_like(given)
    a.op = op
    a.p = <real>p
    a.q = <real>q
    a.g = NULL if upstream is None else data(upstream)
    a.x = data(given)
    a.out = data(y)
    a.n = cnp.PyArray_SIZE(given)
    if a.n < KEEP_LOCK_BELOW:
        activation_worker(&a, 0, 1)
    else:
        with nogil:
            run(activation_worker, &a, shares_of(FLOP_PER_FUNCTION * a.n, a.n))
    return y


cdef activation_of(int op, str name, tuple arguments, object g, object x, double p, double q):
    cdef cnp.ndarray y
    if is_for_float64(x):
        return getattr(float64_kernels, name)(*arguments)
    y = activation(op, name, g, x, p, q)
    return getattr(activated_in_numpy, name)(*arguments) if y is None else y


def leaky_relu(x, slope):
    """See `plain_activation.leaky_relu`."""
    return activation_of(LEAKY_RELU, "leaky_relu", (x, slope), None, x, slope, 0)


def leaky_relu_grad(g, x, slope):
    """See `plain_activation.leaky_relu_grad`."""
    return activation_of(LEAKY_RELU, "leaky_relu_grad", (g, x, slope), g, x, slope, 0)


def elu(x, alpha):
    """See `plain_activation.elu`."""
    return activation_of(ELU, "elu", (x, alpha), None, x, alpha, 0)


def elu_grad(g, x, alpha):
    """See `plain_activation.elu_grad`."""
    return activation_of(ELU, "elu_grad", (g, x, alpha), g, x, alpha, 0)


def softplus(x, beta, threshold):
    """See `plain_activation.softplus`."""
    return activation_of(SOFTPLUS, "softplus", (x, beta, threshold), None, x, beta, threshold)


def softplus_grad(g, x, beta, threshold):
    """See `plain_activation.softplus_grad`."""
    return activation_of(SOFTPLUS, "softplus_grad", (g, x, beta, threshold), g, x, beta, threshold)


def log_sigmoid(x):
    """See `plain_activation.log_sigmoid`."""
    return activation_of(LOG_SIGMOID, "log_sigmoid", (x,), None, x, 0, 0)


def log_sigmoid_grad(g, x):
    """See `plain_activation.log_sigmoid_grad`."""
    return activation_of(LOG_SIGMOID, "log_sigmoid_grad", (g, x), g, x, 0, 0)


def silu(x):
    """See `plain_activation.silu`."""
    return activation_of(SILU, "silu", (x,), None, x, 0, 0)


def silu_grad(g, x):
    """See `plain_activation.silu_grad`."""
    return activation_of(SILU, "silu_grad", (g, x), g, x, 0, 0)


def gelu(x):
    """See `plain_activation.gelu`."""
    return activation_of(GELU, "gelu", (x,), None, x, 0, 0)


def gelu_grad(g, x):
    """See `plain_activation.gelu_grad`."""
    return activation_of(GELU, "gelu_grad", (g, x), g, x, 0, 0)


def gelu_tanh(x):
    """See `plain_activation.gelu_tanh`."""
    return activation_of(GELU_TANH, "gelu_tanh", (x,), None, x, 0, 0)


def gelu_tanh_grad(g, x):
    """See `plain_activation.gelu_tanh_grad`."""
    return activation_of(GELU_TANH, "gelu_tanh_grad", (g, x), g, x, 0, 0)


def hardtanh(x, low, high):
    """See `plain_activation.hardtanh`."""
    return activation_of(HARDTANH, "hardtanh", (x, low, high), None, x, low, high)


def hardtanh_grad(g, x, low, high):
    """See `plain_activation.hardtanh_grad`."""
    return activation_of(HARDTANH, "hardtanh_grad", (g, x, low, high), g, x, low, high)
