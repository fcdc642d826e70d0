# Elementary functions of vectors, to 2 units in the last place over the whole range: subnormal numbers, infinities, NaN
# and signed zeros included. Measured against wider arithmetic: see tests/kernels/test_kernel_functions.py.
cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <immintrin.h>
    #endif

    /* 1.5 · 2^FRACTION: what is added to a number of moderate size leaves it rounded to an integer in the last bits. */
    #if REALSZ == 4
    typedef uint32_t ureal;
    #define FRACTION 23
    #define BIAS 127
    #define ROUNDER 12582912.0f
    #define INTEGER_BASE 8388608.0f    /* 2^FRACTION: its bits or-ed with an integer's are those of both added */
    #define INTEGER_BITS ISET1(0x4B000000)
    #define SQRT_HALF_BITS ISET1(0x3F3504F3)
    #define SMALLEST_NORMAL 1.17549435e-38f
    #define LN2_HIGH 0.693145751953125f    /* so few bits that a product with an exponent is exact */
    #define LN2_LOW 1.42860682030941723e-6f
    enum { N_EXP = 5, N_LOG = 3, N_TANH = 5, N_ERF = 7, N_ERFC = 7, N_TAIL = 9 };
    #define ERF_HIGHEST 4.0f           /* above, erf is 1 */
    #define EXP_LOWEST -104.0f         /* below, exp is 0; above the other, it is infinite */
    #define EXP_HIGHEST 89.0f
    #define EXPM1_LOWEST -20.0f        /* below, expm1 is -1; above the other, it is exp */
    #define EXPM1_HIGHEST 40.0f
    #else
    typedef uint64_t ureal;
    #define FRACTION 52
    #define BIAS 1023
    #define ROUNDER 6755399441055744.0
    #define INTEGER_BASE 4503599627370496.0
    #define INTEGER_BITS ISET1(0x4330000000000000)
    #define SQRT_HALF_BITS ISET1(0x3FE6A09E667F3BCD)
    #define SMALLEST_NORMAL 2.2250738585072014e-308
    #define LN2_HIGH 0.6931471805596629565116018
    #define LN2_LOW 2.8235290563031577123e-13
    enum { N_EXP = 10, N_LOG = 7, N_TANH = 11, N_ERF = 12, N_ERFC = 18, N_TAIL = 20 };
    #define ERF_HIGHEST 6.0
    #define EXP_LOWEST -746.0
    #define EXP_HIGHEST 710.0
    #define EXPM1_LOWEST -40.0
    #define EXPM1_HIGHEST 50.0
    #endif
    #define INV_LN2 ((real)1.4426950408889634074)
    #define SIGN_BIT ISET1((ureal)1 << (8 * REALSZ - 1))
    #define BIAS_BITS ISET1((ireal)BIAS << FRACTION)

    typedef ureal nvec __attribute__((vector_size(VBYTES)));

    /* (exp(r) - 1 - r - r²/2) / r³ for |r| <= ln(2)/2; (log((1 + s) / (1 - s)) - 2s) / s³ in s² for |s| <= 0.1716;
       (tanh(x) - x) / x³ in x² for |x| <= 0.55. Interpolated at Chebyshev's points, which is within a factor of two of
       the best polynomial. Their share of the error is 2^-29.8, 2^-28.4, 2^-28 for float, and for double 2^-59.7,
       2^-57.6, 2^-58.7. Likewise erf(x) / x - 1 in x² for |x| <= 1, and exp(x²)·erfc(x) in 1 / (2 + x) from 1 to where erf
       is 1: 2^-29.5 and 2^-24.3 (of which erfc(1) / erf(1) = 0.19 counts), 2^-56.8 and 2^-58.4. And exp(x²/2) times what
       the normal distribution has above x, in 12 / (4 + x) - 2: of the distribution, 2^-29.6 and 2^-62.6. */
    #if REALSZ == 4
    static const real EXP_TERMS[] = {
        0.166666666666666667f, 0.0416665544376859389f, 0.00833332086723220235f, 0.0013926213466332443f,
        0.000198827315195740122f};
    static const real LOG_TERMS[] = {0.666666850954290687f, 0.39988757716604847f, 0.295809859299744226f};
    static const real TANH_TERMS[] = {
        -0.333333319965620724f, 0.133331122388203115f, -0.053909135815224463f, 0.021307592146343007f,
        -0.00660685121004260265f};
    static const real ERF_TERMS[] = {
        0.12837916584835095f, -0.37612626666720331f, 0.112835947151602177f, -0.0268542120106264124f,
        0.00518908742343397399f, -0.000801686428716586953f, 0.0000787587506268548834f};
    static const real ERFC_TERMS[] = {
        0.000605118390967380105f, 0.547268680168792083f, 1.32302853481143873f, 0.811963299543454345f,
        6.45592085346125195f, -1.82608639884467592f, -3.43234739692467592f};
    static const real TAIL_TERMS[] = {
        0.168102002614720374f, 0.18821483747461212f, 0.0977070014496674064f, 0.0362546541250832715f,
        0.00887102174014203031f, 0.00101714862400137054f, -0.000122388603778592864f, -0.0000488510006809951445f,
        4.57236568912238175e-6f};
    #else
    static const real EXP_TERMS[] = {
        0.166666666666666675, 0.0416666666666666672, 0.00833333333333005135, 0.0013888888888886545,
        0.000198412698631059687, 0.0000248015873171818847, 2.75572683786841929e-6, 2.75572829114826818e-7,
        2.51004241570050668e-8, 2.09112642391960854e-9};
    static const real LOG_TERMS[] = {
        0.666666666666666971, 0.399999999998988905, 0.285714286262538376, 0.222222110893794962,
        0.181828924325368712, 0.153316117220550079, 0.14617807153417325};
    static const real TANH_TERMS[] = {
        -0.333333333333333325, 0.133333333333327042, -0.0539682539674214246, 0.0218694884930925175,
        -0.00886323438457671081, 0.00359211020429111459, -0.00145566043712948734, 0.000588929190951575445,
        -0.000234614385214702351, 0.0000850797975652480551, -0.0000205796190588300067};
    static const real ERF_TERMS[] = {
        0.128379167095512566541, -0.376126389031835404385, 0.112837916709450062655, -0.0268661706432377703602,
        0.00522397760711642273211, -0.000854832597538969208056, 0.000120552949048397079165, -0.0000149247369074196603376,
        0.00000164474247033173624102, -1.62084838018717059017e-7, 1.37200645467776856042e-8, -7.79589882700214224164e-10};
    static const real ERFC_TERMS[] = {
        -2.3585086223305640162e-8, 0.564191702770897085459, 1.12828988089005769412, 1.9770061656575117917,
        2.7780831988334499749, 3.26019762705599305494, -6.29708713915172610125, 41.4411819626257456882,
        -324.98526299133198397, 1572.55013488961548652, -6217.02558000910362406, 19465.901346602320359,
        -45167.2723033374619851, 75374.8570499908789028, -88329.3459370767830489, 69434.9450423523701824,
        -33063.8671824278119133, 7241.83206829916433366};
    static const real TAIL_TERMS[] = {
        0.168102001223170606132, 0.188214833865274395493, 0.0977070869758074045601, 0.0362546983368081078222,
        0.00887017615537008892564, 0.00101724663092443603341, -0.000119635487916225873655, -0.000050250119876500050853,
        0.00000173682501479413338267, 0.00000230846378945472283475, -1.04618060155946872698e-7,
        -1.15562429444130288846e-7, 1.33361930121690653252e-8, 5.43863837441585346891e-9, -1.41047778454562165953e-9,
        -1.52677367088570383282e-10, 1.12656253510540531564e-10, -7.86538647201197908179e-12,
        -5.54552733022161995142e-12, 1.20146342218946408049e-12};
    #endif

    /* Bits shifted as unsigned numbers: below AVX-512 there is no other right shift of 64 bits. */
    #define BITS(x) ((ivec)(x))
    #define FROM_BITS(i) ((vec)(i))
    #define SHIFT_LEFT(i, n) ((ivec)((nvec)(i) << (n)))
    #define SHIFT_RIGHT(i, n) ((ivec)((nvec)(i) >> (n)))
    #define VLESS(a, b) ((a) < (b))
    #define VLESSEQ(a, b) ((a) <= (b))
    #define VEQUAL(a, b) ((a) == (b))

    /* The lesser, the larger: of two of which one is NaN, the second. One instruction where the compiler, which has NaN
       to think of, makes three. */
    #if VBYTES == 64 && REALSZ == 4
    #define VMIN(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
    #define VMAX(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
    #define VSQRT(x) ((vec)_mm512_sqrt_ps((__m512)(x)))
    #elif VBYTES == 64
    #define VMIN(a, b) ((vec)_mm512_min_pd((__m512d)(a), (__m512d)(b)))
    #define VMAX(a, b) ((vec)_mm512_max_pd((__m512d)(a), (__m512d)(b)))
    #define VSQRT(x) ((vec)_mm512_sqrt_pd((__m512d)(x)))
    #elif VBYTES == 32 && REALSZ == 4
    #define VMIN(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
    #define VMAX(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
    #define VSQRT(x) ((vec)_mm256_sqrt_ps((__m256)(x)))
    #elif VBYTES == 32
    #define VMIN(a, b) ((vec)_mm256_min_pd((__m256d)(a), (__m256d)(b)))
    #define VMAX(a, b) ((vec)_mm256_max_pd((__m256d)(a), (__m256d)(b)))
    #define VSQRT(x) ((vec)_mm256_sqrt_pd((__m256d)(x)))
    #elif defined(__SSE2__) && REALSZ == 4
    #define VMIN(a, b) ((vec)_mm_min_ps((__m128)(a), (__m128)(b)))
    #define VMAX(a, b) ((vec)_mm_max_ps((__m128)(a), (__m128)(b)))
    #define VSQRT(x) ((vec)_mm_sqrt_ps((__m128)(x)))
    #elif defined(__SSE2__)
    #define VMIN(a, b) ((vec)_mm_min_pd((__m128d)(a), (__m128d)(b)))
    #define VMAX(a, b) ((vec)_mm_max_pd((__m128d)(a), (__m128d)(b)))
    #define VSQRT(x) ((vec)_mm_sqrt_pd((__m128d)(x)))
    #else
    static inline vec vmin(vec a, vec b) { return VSELECT(a < b, a, b); }
    static inline vec vmax(vec a, vec b) { return VSELECT(a > b, a, b); }
    static inline vec vsqrt(vec x) { for (int i = 0; i < VLEN; i++) x[i] = SQRT(x[i]); return x; }
    #define VMIN(a, b) vmin(a, b)
    #define VMAX(a, b) vmax(a, b)
    #define VSQRT(x) vsqrt(x)
    #endif

    /* 2^n from n + ROUNDER: the integer in the last bits, moved to where the exponent stands. */
    static inline vec power_of_two(vec rounded) { return FROM_BITS(SHIFT_LEFT(BITS(rounded) + BIAS, FRACTION)); }

    /* x · 2^n for whole n. In two steps, because 2^n itself may be out of range; only the second one rounds. */
    #if VBYTES == 64 && REALSZ == 4
    #define TIMES_POWER(x, n) ((vec)_mm512_scalef_ps((__m512)(x), (__m512)(n)))
    #elif VBYTES == 64
    #define TIMES_POWER(x, n) ((vec)_mm512_scalef_pd((__m512d)(x), (__m512d)(n)))
    #else
    static inline vec times_power(vec x, vec n) {
        vec half = n * (real)0.5 + ROUNDER;
        return x * power_of_two(half) * power_of_two(n - (half - ROUNDER) + ROUNDER);
    }
    #define TIMES_POWER(x, n) times_power(x, n)
    #endif
    """
    enum: FRACTION, BIAS, N_EXP, N_LOG, N_TANH, N_ERF, N_ERFC, N_TAIL
    double NAN
    ivec INTEGER_BITS, SQRT_HALF_BITS, SIGN_BIT, BIAS_BITS
    real ROUNDER, INTEGER_BASE, SMALLEST_NORMAL, LN2_HIGH, LN2_LOW, INV_LN2
    real EXP_LOWEST, EXP_HIGHEST, EXPM1_LOWEST, EXPM1_HIGHEST, ERF_HIGHEST
    const real* EXP_TERMS
    const real* LOG_TERMS
    const real* TANH_TERMS
    const real* ERF_TERMS
    const real* ERFC_TERMS
    const real* TAIL_TERMS
    ivec BITS(vec) nogil
    vec FROM_BITS(ivec) nogil
    ivec SHIFT_LEFT(ivec, int) nogil
    ivec SHIFT_RIGHT(ivec, int) nogil
    ivec VLESS(vec, vec) nogil
    ivec VLESSEQ(vec, vec) nogil
    ivec VEQUAL(vec, vec) nogil
    vec VMIN(vec, vec) nogil
    vec VMAX(vec, vec) nogil
    vec VSQRT(vec) nogil
    vec power_of_two(vec rounded) nogil
    vec TIMES_POWER(vec, vec) nogil


cdef inline vec polynomial(vec x, const real* terms, int n) noexcept nogil:
    cdef vec y = VSET1(terms[n - 1])
    cdef int i
    for i in range(n - 1):
        y = y * x + terms[n - 2 - i]
    return y


cdef inline vec size_of_each(vec x) noexcept nogil:
    return FROM_BITS(BITS(x) & ~SIGN_BIT)


cdef inline vec with_sign_of(vec size, vec x) noexcept nogil:
    return FROM_BITS(BITS(size) | (BITS(x) & SIGN_BIT))


cdef inline vec reduced_expm1(vec x, vec* rounded) noexcept nogil:
    """exp(r) - 1 where x = n·ln 2 + r, |r| <= ln(2)/2, for moderate x; n + ROUNDER by the pointer."""
    cdef vec n, r
    rounded[0] = x * INV_LN2 + ROUNDER
    n = rounded[0] - ROUNDER
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    return r + r * r * (<real>0.5 + r * polynomial(r, EXP_TERMS, N_EXP))


cdef inline vec exp_of(vec x) noexcept nogil:
    cdef vec rounded, p
    p = reduced_expm1(VMIN(VSET1(EXP_HIGHEST), VMAX(VSET1(EXP_LOWEST), x)), &rounded)
    return TIMES_POWER(<real>1 + p, rounded - ROUNDER)


cdef inline vec moderate_exp_plus(vec x, real more) noexcept nogil:
    """exp(x) + more for x in [EXPM1_LOWEST, EXPM1_HIGHEST]."""
    cdef vec rounded, p, power
    p = reduced_expm1(x, &rounded)
    power = power_of_two(rounded)
    return power * p + (power + more)


cdef inline vec expm1_of(vec x) noexcept nogil:
    cdef vec y = moderate_exp_plus(VMIN(VSET1(EXPM1_HIGHEST), VMAX(VSET1(EXPM1_LOWEST), x)), -1)
    y = VSELECT(VLESS(VSET1(EXPM1_HIGHEST), x), exp_of(x), y)
    return with_sign_of(y, x)  # for -0


cdef inline vec tanh_of(vec x) noexcept nogil:
    """A polynomial up to 0.55, and 1 - 2 / (exp(2|x|) + 1) from there on."""
    cdef vec size = size_of_each(x), square = size * size
    cdef vec near = size + size * square * polynomial(square, TANH_TERMS, N_TANH)
    cdef vec far = <real>1 - VSET1(<real>2) / moderate_exp_plus(VMIN(VSET1(EXPM1_HIGHEST), size + size), 1)
    return with_sign_of(VSELECT(VLESS(size, VSET1(<real>0.55)), near, far), x)


cdef inline vec erf_of(vec x) noexcept nogil:
    """A polynomial up to 1, and 1 - erfc(|x|) from there on."""
    cdef vec size = size_of_each(x)
    cdef vec near = x + x * polynomial(x * x, ERF_TERMS, N_ERF)
    cdef vec far = VMIN(VSET1(ERF_HIGHEST), size)
    cdef vec t = far + <real>2
    far = <real>1 - exp_of(-far * far) * polynomial(VSET1(<real>1) / t, ERFC_TERMS, N_ERFC)
    return VSELECT(VLESS(size, VSET1(<real>1)), near, with_sign_of(far, x))


cdef inline vec normal_of(vec x, vec* bell) noexcept nogil:
    """What the normal distribution has below x, and exp(-x²/2). Its error counts beside 1: beyond -4, some digits lack."""
    cdef vec u = size_of_each(x) + <real>4, tail
    u = VSET1(<real>12) / u - <real>2
    bell[0] = exp_of(<real>-0.5 * x * x)
    tail = bell[0] * polynomial(u, TAIL_TERMS, N_TAIL)
    return VSELECT(VLESS0(x), tail, <real>1 - tail)


cdef inline vec sigmoid_of(vec x) noexcept nogil:
    """1 - t from 0 up and e - e·t below, with e = exp(-|x|) and t = e / (1 + e); e / (1 + e) itself is 2.3 ulp off."""
    cdef vec e = exp_of(-size_of_each(x))
    cdef vec t = e / (VSET1(<real>1) + e)
    cdef vec y = VSELECT(VLESS0(x), e, VSET1(<real>1))
    return y - y * t


cdef inline vec log_of_parts(vec f, vec exponent, vec rest) noexcept nogil:
    """exponent·ln 2 + log(1 + f) + rest, for f in [√½ - 1, √2 - 1] (s = f / (2 + f); FreeBSD's e_log.c)."""
    cdef vec s = f / (f + VSET1(<real>2)), half_square = <real>0.5 * f * f
    cdef vec z = s * s
    cdef vec r = s * (half_square + z * polynomial(z, LOG_TERMS, N_LOG))
    return exponent * LN2_HIGH - ((half_square - (r + (exponent * LN2_LOW + rest))) - f)


cdef inline vec fraction_and_exponent(vec x, vec* exponent) noexcept nogil:
    """x / 2^n in [√½, √2) for normal x > 0, and n."""
    cdef ivec i = BITS(x) + (BIAS_BITS - SQRT_HALF_BITS)
    cdef ivec n = SHIFT_RIGHT(i, FRACTION)
    exponent[0] = FROM_BITS(n | INTEGER_BITS) - (INTEGER_BASE + BIAS)
    return FROM_BITS(i - SHIFT_LEFT(n, FRACTION) + SQRT_HALF_BITS)


cdef inline vec log_special(vec x, vec y) noexcept nogil:
    """y, but what a logarithm of x is where x is 0, negative, infinite or NaN."""
    y = VSELECT(VLESSEQ0(x), VSELECT(VLESS0(x), VSET1(<real>NAN), VSET1(<real>-INFINITY)), y)
    return VSELECT(VLESS(x, VSET1(<real>INFINITY)), y, x)


cdef inline vec log_of(vec x) noexcept nogil:
    cdef ivec tiny = VLESS(x, VSET1(SMALLEST_NORMAL))
    cdef vec n, f
    f = fraction_and_exponent(VSELECT(tiny, x * (<real>2 * INTEGER_BASE), x), &n)
    n = n - VAND(VSET1(<real>(FRACTION + 1)), tiny)
    return log_special(x, log_of_parts(f - <real>1, n, VZERO))


cdef inline vec log1p_of(vec x) noexcept nogil:
    """log(u) with u = 1 + x as rounded, plus what the rounding lost: (x - (u - 1)) / u, or the same from the 1."""
    cdef vec u = x + <real>1, n, f, lost
    f = fraction_and_exponent(u, &n)
    lost = VSELECT(VLESS(VSET1(<real>1), x), <real>1 - (u - x), x - (u - <real>1)) / u
    # Where n is 0, f is x itself and nothing is lost.
    f = f - <real>1
    f = VSELECT(VEQUAL(n, VZERO), x, f)
    lost = VANDNOT(lost, VEQUAL(n, VZERO))
    f = log_special(u, log_of_parts(f, n, lost))
    return VSELECT(VEQUAL(x, VZERO), x, f)
