# Straight-line programs: what scalargrad.compile makes of a function of Values, carried out for blocks of samples. The
# instructions are described in opcodes.py. There is no calculus here: gradients were traced, and are instructions like
# others.
#
# Results are those of Python's own arithmetic to the last bit: the elementary functions are the C library's, one number
# at a time, and no product is fused with a sum.
from libc.stdint cimport int64_t

from scalargrad.kernels import opcodes

cdef extern from *:
    """
    #if REALSZ == 4
    #define LIBM(name) name##f
    #else
    #define LIBM(name) name
    #endif

    /* As in opcodes.py, which is compared with this list at import. */
    #define EACH_NAME(F) \\
        F(neg) F(exp) F(expm1) F(log) F(log1p) F(sqrt) F(sin) F(cos) F(tan) F(tanh) F(erf) F(sigmoid) F(relu) F(abs) \\
        F(sign) F(logical_not) F(add) F(sub) F(mul) F(div) F(pow) F(relu_grad) F(maximum) F(minimum) F(select) F(eq) F(ne) \\
        F(lt) F(le) F(gt) F(ge) F(input) F(output) F(broadcast) F(dot) F(sums)
    #define AS_ENUM(name) DO_##name,
    #define AS_TEXT(name) #name,
    enum { EACH_NAME(AS_ENUM) N_INSTRUCTIONS, LANES_OF_BLOCK = 64 };
    static const char* const INSTRUCTION_NAMES[] = { EACH_NAME(AS_TEXT) };

    typedef struct { int32_t op, d, a, b; } Instruction;
    typedef struct { int32_t a, b, c; } Term;
    typedef struct { real* data; Py_ssize_t width; } Columns;
    typedef struct {
        const Instruction* code; const Term* terms; Py_ssize_t n_code;
        const real* scalars; const Columns* inputs; const Columns* outputs; const int64_t* samples;
    } Task;

    /* Kernels elsewhere want products and sums fused; Python does not fuse them, and so nor may these functions. */
    #if defined(__clang__)
    #pragma clang fp contract(off)
    #elif defined(__GNUC__)
    #pragma GCC push_options
    #pragma GCC optimize ("fp-contract=off")
    #endif

    static real sigmoid_number(real a) {
        if (a >= 0) return 1 / (1 + LIBM(exp)(-a));
        real e = LIBM(exp)(a);
        return e / (1 + e);
    }

    static const real ONES[LANES_OF_BLOCK] __attribute__((aligned(64))) = {
        1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1,
        1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1 };

    /* Rows of `stride` numbers; a block has n_vectors vectors, and in them n samples. */
    #define ROW(i) (rows + (size_t)(i) * stride)

    #define DOT_OF(T, X, STEP) { \\
        vec acc[T]; \\
        for (int v = 0; v < T; v++) \\
            acc[v] = init.a == 1 ? ((const vec*)ROW(init.b))[at + v] : VSET1(init.a == 2 ? scalars[init.b] : 0); \\
        Py_ssize_t k = 0; \\
        if (init.a == 0) { \\
            const vec* y = (const vec*)ROW(t[0].b) + at; X(0) \\
            for (int v = 0; v < T; v++) acc[v] = (STEP) * y[v]; \\
            k = 1; \\
        } \\
        for (; k < count; k++) { \\
            const vec* y = (const vec*)ROW(t[k].b) + at; X(k) \\
            for (int v = 0; v < T; v++) acc[v] = acc[v] + (STEP) * y[v]; \\
        } \\
        for (int v = 0; v < T; v++) d[at + v] = acc[v]; }
    #define SCALAR_FACTOR(k) vec x = VSET1(scalars[t[k].a]);
    #define ROW_FACTOR(k) const vec* x = (const vec*)ROW(t[k].a) + at;
    #define DOT_REST(T) case T: if (scalar) DOT_OF(T, SCALAR_FACTOR, x) else DOT_OF(T, ROW_FACTOR, x[v]) break;

    static void dot(const Term* t, Py_ssize_t count, int scalar, const real* scalars, real* rows, Py_ssize_t stride,
                    int n_vectors, vec* d) {
        Term init = *t++;
        int at = 0;
        count--;
        for (; at + 8 <= n_vectors; at += 8) {
            if (scalar) DOT_OF(8, SCALAR_FACTOR, x) else DOT_OF(8, ROW_FACTOR, x[v])
        }
        switch (n_vectors - at) {
            DOT_REST(1) DOT_REST(2) DOT_REST(3) DOT_REST(4) DOT_REST(5) DOT_REST(6) DOT_REST(7)
        }
    }

    /* The samples are added one after the other, in VLEN sums at a time: products of a sum a row, then transposed. */
    static void add_to_sums(const Term* t, Py_ssize_t count, const real* rows, Py_ssize_t stride, int n, real* sums) {
        for (Py_ssize_t first = 0; first < count; first += VLEN) {
            const vec* x[VLEN]; const vec* y[VLEN];
            real totals[VLEN] __attribute__((aligned(64)));
            int used = count - first < VLEN ? (int)(count - first) : VLEN;
            for (int k = 0; k < VLEN; k++) {
                Term term = t[first + (k < used ? k : 0)];
                x[k] = (const vec*)ROW(term.b);
                y[k] = (const vec*)(term.c < 0 ? ONES : ROW(term.c));
                totals[k] = sums[term.a];
            }
            vec total = *(vec*)totals;
            for (int v = 0; v * VLEN < n; v++) {
                vec p[VLEN];
                for (int k = 0; k < VLEN; k++) p[k] = x[k][v] * y[k][v];
                transpose(p);
                if (n - v * VLEN >= VLEN) { for (int k = 0; k < VLEN; k++) total = total + p[k]; }
                else { for (int k = 0; k < VLEN; k++) if (k < n - v * VLEN) total = total + p[k]; }
            }
            *(vec*)totals = total;
            for (int k = 0; k < used; k++) sums[t[first + k].a] = totals[k];
        }
    }

    #define EACH_VECTOR for (int v = 0; v < n_vectors; v++)
    #define UNARY(name, result) \\
        case 4 * DO_##name: { const vec* a = (const vec*)ROW(i.a); \\
            EACH_VECTOR { vec x = a[v]; d[v] = (result); } break; }
    #define BINARY(name, result) \\
        case 4 * DO_##name: { const vec* a = (const vec*)ROW(i.a); const vec* b = (const vec*)ROW(i.b); \\
            EACH_VECTOR { vec x = a[v], y = b[v]; d[v] = (result); } break; } \\
        case 4 * DO_##name + 1: { const vec* a = (const vec*)ROW(i.a); vec y = VSET1(scalars[i.b]); \\
            EACH_VECTOR { vec x = a[v]; d[v] = (result); } break; } \\
        case 4 * DO_##name + 2: { vec x = VSET1(scalars[i.a]); const vec* b = (const vec*)ROW(i.b); \\
            EACH_VECTOR { vec y = b[v]; d[v] = (result); } break; }
    #define EACH_SAMPLE(name, result) \\
        case 4 * DO_##name: { const real* a = ROW(i.a); real* r = ROW(i.d); \\
            for (int k = 0; k < n; k++) { real x = a[k]; r[k] = (result); } break; }
    #define TRUTH(condition) VAND(VSET1((real)1), condition)

    static void run_block(const Task* task, real* rows, Py_ssize_t stride, int n_vectors, Py_ssize_t first, int n,
                          real* sums) {
        const real* scalars = task->scalars;
        const int64_t* samples = task->samples;
        for (Py_ssize_t at = 0; at < task->n_code; at++) {
            Instruction i = task->code[at];
            vec* d = (vec*)ROW(i.d);
            switch (i.op) {
                BINARY(add, x + y)
                BINARY(sub, x - y)
                BINARY(mul, x * y)
                BINARY(div, x / y)
                BINARY(relu_grad, VANDNOT(x, y <= VZERO))
                BINARY(maximum, VSELECT((x > y) | (x != x), x, y))
                BINARY(minimum, VSELECT((x < y) | (x != x), x, y))
                BINARY(select, VAND(y, x != VZERO))
                BINARY(eq, TRUTH(x == y))
                BINARY(ne, TRUTH(x != y))
                BINARY(lt, TRUTH(x < y))
                BINARY(le, TRUTH(x <= y))
                BINARY(gt, TRUTH(x > y))
                BINARY(ge, TRUTH(x >= y))
                UNARY(neg, -x)
                UNARY(relu, VANDNOT(x, x < VZERO))
                UNARY(abs, VANDNOT(x, (ivec)VSET1((real)-0.0)))
                UNARY(sign, TRUTH(x > VZERO) - TRUTH(x < VZERO))
                UNARY(logical_not, TRUTH(x == VZERO))
                EACH_SAMPLE(sqrt, LIBM(sqrt)(x))
                EACH_SAMPLE(exp, LIBM(exp)(x))
                EACH_SAMPLE(expm1, LIBM(expm1)(x))
                EACH_SAMPLE(log, LIBM(log)(x))
                EACH_SAMPLE(log1p, LIBM(log1p)(x))
                EACH_SAMPLE(sin, LIBM(sin)(x))
                EACH_SAMPLE(cos, LIBM(cos)(x))
                EACH_SAMPLE(tan, LIBM(tan)(x))
                EACH_SAMPLE(tanh, LIBM(tanh)(x))
                EACH_SAMPLE(erf, LIBM(erf)(x))
                EACH_SAMPLE(sigmoid, sigmoid_number(x))
                case 4 * DO_pow: { const real* a = ROW(i.a); const real* b = ROW(i.b); real* r = ROW(i.d);
                    for (int k = 0; k < n; k++) r[k] = LIBM(pow)(a[k], b[k]);
                    break; }
                case 4 * DO_pow + 1: { const real* a = ROW(i.a); real y = scalars[i.b]; real* r = ROW(i.d);
                    for (int k = 0; k < n; k++) r[k] = LIBM(pow)(a[k], y);
                    break; }
                case 4 * DO_pow + 2: { real x = scalars[i.a]; const real* b = ROW(i.b); real* r = ROW(i.d);
                    for (int k = 0; k < n; k++) r[k] = LIBM(pow)(x, b[k]);
                    break; }
                case 4 * DO_input: {
                    Py_ssize_t width = task->inputs[i.a].width;
                    const real* x = task->inputs[i.a].data + i.b;
                    real* r = ROW(i.d);
                    if (samples) for (int k = 0; k < n; k++) r[k] = x[samples[first + k] * width];
                    else for (int k = 0; k < n; k++) r[k] = x[(first + k) * width];
                    /* What is beyond the samples is computed with, and must not be slow numbers. */
                    for (Py_ssize_t k = n; k < stride; k++) r[k] = 0;
                    break; }
                case 4 * DO_output:
                case 4 * DO_output + 2: {
                    Py_ssize_t width = task->outputs[i.b].width;
                    real* y = task->outputs[i.b].data + i.d;
                    const real* r = i.op == 4 * DO_output ? ROW(i.a) : scalars + i.a;
                    int step = i.op == 4 * DO_output;
                    for (int k = 0; k < n; k++) y[(samples ? samples[first + k] : first + k) * width] = r[k * step];
                    break; }
                case 4 * DO_broadcast: { vec x = VSET1(scalars[i.a]); EACH_VECTOR d[v] = x; break; }
                case 4 * DO_dot:
                case 4 * DO_dot + 2:
                    dot(task->terms + i.a, i.b, i.op != 4 * DO_dot, scalars, rows, stride, n_vectors, d);
                    break;
                case 4 * DO_sums:
                    add_to_sums(task->terms + i.a, i.b, rows, stride, n, sums);
                    break;
            }
        }
    }

    #if defined(__clang__)
    #pragma clang fp contract(on)
    #elif defined(__GNUC__)
    #pragma GCC pop_options
    #endif

    /* The scratch memory that a program keeps from call to call is taken and given back in one step, so that calls from
       two threads do not meet in it. It begins with its size. */
    static inline char* exchange(char** place, char* pointer) {
        return __atomic_exchange_n(place, pointer, __ATOMIC_ACQ_REL);
    }
    """
    enum: N_INSTRUCTIONS, LANES_OF_BLOCK
    const char** INSTRUCTION_NAMES
    ctypedef struct Instruction:
        int32_t op, d, a, b
    ctypedef struct Term:
        int32_t a, b, c
    ctypedef struct Columns:
        real* data
        Py_ssize_t width
    ctypedef struct Task:
        const Instruction* code
        const Term* terms
        Py_ssize_t n_code
        const real* scalars
        const Columns* inputs
        const Columns* outputs
        const int64_t* samples
    char* exchange(char** place, char* pointer) noexcept nogil
    void run_block(const Task*, real* rows, Py_ssize_t stride, int n_vectors, Py_ssize_t first, int n,
                   real* sums) noexcept nogil


if (tuple(INSTRUCTION_NAMES[i].decode() for i in range(N_INSTRUCTIONS)), LANES_OF_BLOCK) != (
    opcodes.NAMES,
    opcodes.LANES,
):
    raise ImportError("program.pxi and opcodes.py list different instructions: build the kernels again")

cdef struct ProgramJob:
    Task task
    Py_ssize_t n_samples, run_length, n_runs, n_sums, n_scratch_bytes
    char* scratch   # of each share: its rows
    real* sums      # of each run


cdef void program_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef ProgramJob* j = <ProgramJob*>job
    cdef real* rows = <real*>(j.scratch + share * j.n_scratch_bytes)
    cdef Py_ssize_t r, first, last, n_blocks, block, start, end
    cdef int n_vectors
    for r in range(start_of(share, n_shares, j.n_runs), start_of(share + 1, n_shares, j.n_runs)):
        first = r * j.run_length
        last = first + j.run_length if first + j.run_length < j.n_samples else j.n_samples
        # 100 samples as 50 + 50 and not as 64 + 36.
        n_blocks = (last - first + LANES_OF_BLOCK - 1) // LANES_OF_BLOCK
        n_vectors = <int>(((last - first + n_blocks - 1) // n_blocks + VL - 1) // VL)
        start = first
        for block in range(n_blocks):
            end = first + start_of(block + 1, n_blocks, last - first)
            run_block(&j.task, rows, n_vectors * VL, n_vectors, start, <int>(end - start), j.sums + r * j.n_sums)
            start = end


cdef int take_columns(str what, object arrays, cnp.ndarray width_array, Py_ssize_t n, bint written,
                      Columns* columns) except -1:
    """One pointer for each of the arrays, which are C-contiguous and of n rows (`n` -1: the arrays are vectors)."""
    cdef Py_ssize_t i, count = cnp.PyArray_SIZE(width_array)
    cdef const Py_ssize_t* widths = <const Py_ssize_t*>DATA_OF(width_array)
    cdef cnp.ndarray array
    if len(arrays) != count:
        raise ValueError(f"program: expected {count} {what}, got {len(arrays)}")
    for i in range(count):
        if not cnp.PyArray_Check(arrays[i]):
            raise TypeError(f"program: expected arrays as {what}, got {type(arrays[i]).__name__}")
        array = <cnp.ndarray>arrays[i]
        if cnp.PyArray_TYPE(array) != REAL_TYPENUM or not cnp.PyArray_ISCARRAY_RO(array):
            raise TypeError(f"program: {what}[{i}] is not a C-contiguous array of {DTYPE}")
        if written and not cnp.PyArray_ISWRITEABLE(array):
            raise ValueError(f"program: {what}[{i}] is read-only")
        if cnp.PyArray_SIZE(array) != widths[i] * n:
            raise ValueError(f"program: expected {widths[i] * n} numbers in {what}[{i}], got {cnp.PyArray_SIZE(array)}")
        columns[i].data = data(array)
        columns[i].width = widths[i]
    return 0


cdef class Program:
    """See `plain_program.Program`."""

    cdef readonly int n_rows, n_sums
    cdef object code_array, term_array
    cdef const Instruction* code
    cdef const Term* terms
    cdef Py_ssize_t n_code, n_terms, n_constants, n_scalars
    cdef cnp.ndarray constants, input_widths, output_widths, scalar_widths
    cdef char* kept_scratch

    def __cinit__(self, code, terms, constants, inputs, scalars, outputs, int n_rows, int n_sums):
        opcodes.check(code, terms, len(constants), inputs, scalars, outputs, n_rows, n_sums)
        self.code_array = np.ascontiguousarray(code, np.int32)
        self.term_array = np.ascontiguousarray(terms, np.int32)
        self.constants = np.ascontiguousarray(constants, DTYPE)
        self.code = <const Instruction*>DATA_OF(self.code_array)
        self.terms = <const Term*>DATA_OF(self.term_array)
        self.n_code = len(code)
        self.n_terms = len(terms)
        self.n_constants = len(constants)
        self.input_widths = np.array(inputs, np.intp)
        self.scalar_widths = np.array(scalars, np.intp)
        self.output_widths = np.array(outputs, np.intp)
        self.n_scalars = self.n_constants + sum(scalars)
        self.n_rows = n_rows
        self.n_sums = n_sums

    def __dealloc__(self):
        free(self.kept_scratch)

    @property
    def dtype(self):
        """The numbers that it computes with."""
        return DTYPE

    def run(self, Py_ssize_t n_samples, inputs, scalars, outputs, samples=None):
        """See `plain_program.Program.run`."""
        cdef ProgramJob job
        cdef Py_ssize_t n_inputs = cnp.PyArray_SIZE(self.input_widths)
        cdef Py_ssize_t n_scalar_arrays = cnp.PyArray_SIZE(self.scalar_widths)
        cdef Py_ssize_t n_outputs = cnp.PyArray_SIZE(self.output_widths), n_shares, i, r, n_bytes, at, n_all = n_samples
        cdef cnp.npy_intp n_sums = self.n_sums
        cdef cnp.ndarray sums = cnp.PyArray_ZEROS(1, &n_sums, REAL_TYPENUM, 0), chosen
        cdef Columns* columns
        cdef real* all_scalars
        cdef char* scratch
        cdef real* total = data(sums)
        job.task.samples = NULL
        if samples is not None:
            chosen = np.ascontiguousarray(samples, np.int64)
            if chosen.size and (chosen.min() < 0 or chosen.max() >= n_samples):
                raise IndexError(f"program: samples reach beyond the {n_samples} that there are")
            job.task.samples = <const int64_t*>DATA_OF(chosen)
            n_samples = chosen.size
        job.n_samples = n_samples
        job.run_length = opcodes.RUN if n_samples <= opcodes.RUN else opcodes.run_length(n_samples)
        job.n_runs = (n_samples + job.run_length - 1) // job.run_length
        n_shares = shares_of(<double>n_samples * (self.n_code + self.n_terms), job.n_runs)
        job.n_sums = self.n_sums
        job.n_scratch_bytes = lines(<Py_ssize_t>self.n_rows * LANES_OF_BLOCK, sizeof(real))
        # Columns of all arrays, all scalars, the sums of all runs, then the rows of each share.
        n_bytes = lines(n_inputs + n_outputs + n_scalar_arrays, sizeof(Columns)) + lines(self.n_scalars, sizeof(real))
        if job.n_runs > 1:
            n_bytes += lines(job.n_runs * self.n_sums, sizeof(real))
        at = n_bytes
        n_bytes += n_shares * job.n_scratch_bytes + sizeof(Py_ssize_t) + 64
        # The scratch of the last call, unless another thread is using it: a fresh one has to be paged in.
        scratch = exchange(&self.kept_scratch, NULL)
        if scratch != NULL and (<Py_ssize_t*>scratch)[0] < n_bytes:
            free(scratch)
            scratch = NULL
        if scratch == NULL:
            scratch = <char*>malloc(n_bytes)
            if scratch == NULL:
                raise MemoryError(f"program: no memory for {n_bytes} bytes")
            (<Py_ssize_t*>scratch)[0] = n_bytes
        try:
            columns = <Columns*>on_a_line(scratch + sizeof(Py_ssize_t))
            take_columns("inputs", inputs, self.input_widths, n_all, False, columns)
            take_columns("outputs", outputs, self.output_widths, n_all, True, columns + n_inputs)
            take_columns("scalars", scalars, self.scalar_widths, 1, False, columns + n_inputs + n_outputs)
            job.task.inputs = columns
            job.task.outputs = columns + n_inputs
            all_scalars = <real*>(<char*>columns + lines(n_inputs + n_outputs + n_scalar_arrays, sizeof(Columns)))
            job.task.scalars = all_scalars
            job.task.code = self.code
            job.task.terms = self.terms
            job.task.n_code = self.n_code
            job.sums = total
            if job.n_runs > 1:
                job.sums = <real*>(<char*>all_scalars + lines(self.n_scalars, sizeof(real)))
            job.scratch = <char*>columns + at
            memcpy(all_scalars, data(self.constants), self.n_constants * sizeof(real))
            all_scalars += self.n_constants
            for i in range(n_scalar_arrays):
                at = columns[n_inputs + n_outputs + i].width
                memcpy(all_scalars, columns[n_inputs + n_outputs + i].data, at * sizeof(real))
                all_scalars += at
            with nogil:
                if job.n_runs > 1:
                    memset(job.sums, 0, job.n_runs * self.n_sums * sizeof(real))
                run(program_worker, &job, n_shares)
                if job.n_runs > 1:
                    for r in range(job.n_runs):
                        for i in range(self.n_sums):
                            total[i] += job.sums[r * self.n_sums + i]
        finally:
            free(exchange(&self.kept_scratch, scratch))
        return sums


def program(dtype, *parts):
    """See `plain_program.program`."""
    if dtype == DTYPE:
        return Program(*parts)
    if float64_kernels is not None and dtype == np.float64:
        return float64_kernels.program(dtype, *parts)
    raise TypeError(f"program(): expected float32 or float64, got {dtype}")
