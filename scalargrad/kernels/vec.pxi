# Vectors of real numbers in the compiler's own vector extension: `acc += s * b` becomes a broadcast and a fused
# multiply-add. setup.py defines REAL (float, double), REALSZ (4, 8) and VBYTES (16, 32, 64). To Cython a vector is a
# float; C knows better.
cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <math.h>

    #define VLEN (VBYTES / REALSZ)
    /* A vector wider than the registers is split by the compiler, and runs at a fiftieth of the speed. */
    #if VBYTES == 64 && !defined(__AVX512F__)
    #error "64-byte vectors need AVX-512"
    #elif VBYTES == 32 && !defined(__AVX2__)
    #error "32-byte vectors need AVX2"
    #endif

    /* A tile is one function with its sizes as arguments; only inlining turns them into constants. */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))

    typedef REAL real;
    #if REALSZ == 4
    typedef int32_t ireal;
    #define REAL_TYPENUM NPY_FLOAT
    #define EXP expf
    #define LOG logf
    #define SQRT sqrtf
    #else
    typedef int64_t ireal;
    #define REAL_TYPENUM NPY_DOUBLE
    #define EXP exp
    #define LOG log
    #define SQRT sqrt
    #endif

    /* vec is for locals. uvec is for memory, which is aligned to one number only. */
    typedef REAL  vec  __attribute__((vector_size(VBYTES)));
    typedef REAL  uvec __attribute__((vector_size(VBYTES), aligned(REALSZ), may_alias));
    typedef ireal ivec __attribute__((vector_size(VBYTES)));
    typedef ireal uivec __attribute__((vector_size(VBYTES), aligned(REALSZ), may_alias));
    typedef uint8_t u8vec __attribute__((vector_size(VLEN), aligned(1), may_alias));

    #define VZERO ((vec){0})
    #define VSET1(s) ((s) - VZERO)
    #define IZERO ((ivec){0})
    #define ISET1(n) (IZERO + (ireal)(n))

    #if VLEN == 16
    #define LANES 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    #define LOW   0,16,1,17,2,18,3,19,4,20,5,21,6,22,7,23
    #define HIGH  8,24,9,25,10,26,11,27,12,28,13,29,14,30,15,31
    #define EVEN  0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30
    #define ODD   1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31
    #elif VLEN == 8
    #define LANES 0,1,2,3,4,5,6,7
    #define LOW   0,8,1,9,2,10,3,11
    #define HIGH  4,12,5,13,6,14,7,15
    #define EVEN  0,2,4,6,8,10,12,14
    #define ODD   1,3,5,7,9,11,13,15
    #elif VLEN == 4
    #define LANES 0,1,2,3
    #define LOW   0,4,1,5
    #define HIGH  2,6,3,7
    #define EVEN  0,2,4,6
    #define ODD   1,3,5,7
    #else
    #define LANES 0,1
    #define LOW   0,2
    #define HIGH  1,3
    #define EVEN  0,2
    #define ODD   1,3
    #endif

    #if defined(__clang__) || __GNUC__ >= 12
    #define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    #else
    #define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
    #endif
    #define ZIP_LOW(a, b)  SHUFFLE(a, b, LOW)      /* a0 b0 a1 b1 ... */
    #define ZIP_HIGH(a, b) SHUFFLE(a, b, HIGH)
    #define EVENS(a, b)    SHUFFLE(a, b, EVEN)     /* a0 a2 ... b0 b2 ... */
    #define ODDS(a, b)     SHUFFLE(a, b, ODD)

    /* Selection by bits and not by multiplication: 0 times infinity is NaN. */
    #define VAND(x, m)     ((vec)((ivec)(x) & (m)))
    #define VANDNOT(x, m)  ((vec)((ivec)(x) & ~(m)))
    #if VBYTES > 16
    #include <immintrin.h>
    #endif
    #if VBYTES == 64
    /* One instruction; gcc 12 makes three of the expression below. */
    #define ISELECT(m, i, j) ((ivec)_mm512_ternarylogic_epi64((__m512i)(m), (__m512i)(i), (__m512i)(j), 0xca))
    #else
    #define ISELECT(m, i, j) (((i) & (m)) | ((j) & ~(m)))
    #endif
    #define VSELECT(m, x, y) ((vec)ISELECT(m, (ivec)(x), (ivec)(y)))
    #define VLESS0(a)      ((a) < VZERO)
    #define VLESSEQ0(a)    ((a) <= VZERO)
    #define VWINS(a, b)    (((a) > (b)) | ((a) != (a)))   /* max-pooling: a beats b, or is NaN */
    #define IEQUAL(i, n)   ((i) == (ireal)(n))
    /* gcc 12 converts number by number: 2 ns for 16 where the instruction takes one cycle. */
    #if VBYTES == 64
    static inline ivec FROM_BYTES(u8vec b) {
        __m128i x = _mm_setzero_si128();
        memcpy(&x, &b, sizeof b);
        return (ivec)(REALSZ == 4 ? _mm512_cvtepu8_epi32(x) : _mm512_cvtepu8_epi64(x));
    }
    static inline u8vec TO_BYTES(ivec i) {
        __m128i x = REALSZ == 4 ? _mm512_cvtepi32_epi8((__m512i)i) : _mm512_cvtepi64_epi8((__m512i)i);
        u8vec b;
        memcpy(&b, &x, sizeof b);
        return b;
    }
    #elif VBYTES == 32
    static inline ivec FROM_BYTES(u8vec b) {
        __m128i x = _mm_setzero_si128();
        memcpy(&x, &b, sizeof b);
        return (ivec)(REALSZ == 4 ? _mm256_cvtepu8_epi32(x) : _mm256_cvtepu8_epi64(x));
    }
    #define TO_BYTES(i)    __builtin_convertvector(i, u8vec)
    #else
    #define TO_BYTES(i)    __builtin_convertvector(i, u8vec)
    #define FROM_BYTES(b)  __builtin_convertvector(b, ivec)
    #endif

    static inline real VSUM(vec x) { real s = 0; for (int i = 0; i < VLEN; i++) s += x[i]; return s; }

    /* The first n of a vector's numbers, and nothing beyond them in memory. AddressSanitizer does not look into
       intrinsics: for it they are loops. */
    #if VBYTES == 64 && !defined(__SANITIZE_ADDRESS__)
    #if REALSZ == 4
    #define VLOADN(p, n) ((vec)_mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1u), (p)))
    #define VSTOREN(p, x, n) _mm512_mask_storeu_ps((p), (__mmask16)((1u << (n)) - 1u), (__m512)(x))
    #else
    #define VLOADN(p, n) ((vec)_mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1u), (p)))
    #define VSTOREN(p, x, n) _mm512_mask_storeu_pd((p), (__mmask8)((1u << (n)) - 1u), (__m512d)(x))
    #endif
    #elif VBYTES == 32 && !defined(__SANITIZE_ADDRESS__)
    #define LANES_BELOW(n) ((__m256i)((ivec){LANES} < (ireal)(n)))
    #if REALSZ == 4
    #define VLOADN(p, n) ((vec)_mm256_maskload_ps((p), LANES_BELOW(n)))
    #define VSTOREN(p, x, n) _mm256_maskstore_ps((p), LANES_BELOW(n), (__m256)(x))
    #else
    #define VLOADN(p, n) ((vec)_mm256_maskload_pd((p), LANES_BELOW(n)))
    #define VSTOREN(p, x, n) _mm256_maskstore_pd((p), LANES_BELOW(n), (__m256d)(x))
    #endif
    #else
    static inline vec VLOADN(const real* p, int n) {
        real t[VLEN] = {0}; vec x;
        for (int i = 0; i < n; i++) t[i] = p[i];
        memcpy(&x, t, sizeof x);
        return x;
    }
    static inline void VSTOREN(real* p, vec x, int n) {
        real t[VLEN];
        memcpy(t, &x, sizeof x);
        for (int i = 0; i < n; i++) p[i] = t[i];
    }
    #endif
    #if VBYTES == 64 && !defined(__SANITIZE_ADDRESS__)
    /* (6 windows in a row of offsets: 4 ns byte by byte.) */
    #define BYTES_BELOW(n) ((__mmask16)((1u << (n)) - 1u))
    static inline u8vec LOAD_BYTES(const uint8_t* p, int n) {
        __m128i x = _mm_maskz_loadu_epi8(BYTES_BELOW(n), p);
        u8vec low;
        memcpy(&low, &x, sizeof low);
        return low;
    }
    static inline void STORE_BYTES(uint8_t* p, u8vec x, int n) {
        __m128i whole = _mm_setzero_si128();
        memcpy(&whole, &x, sizeof x);
        _mm_mask_storeu_epi8(p, BYTES_BELOW(n), whole);
    }
    #else
    static inline u8vec LOAD_BYTES(const uint8_t* p, int n) {
        u8vec x = {0};
        for (int i = 0; i < n; i++) x[i] = p[i];
        return x;
    }
    static inline void STORE_BYTES(uint8_t* p, u8vec x, int n) { for (int i = 0; i < n; i++) p[i] = x[i]; }
    #endif

    /* A tile of ROWS x 3 vectors, its 3 operands and a broadcast fill 32 registers, or 16 with half the rows. */
    #if defined(__AVX512F__) || defined(__aarch64__)
    enum { ROWS = 8 };
    #else
    enum { ROWS = 4 };
    #endif
    enum { VL = VLEN, PANEL = 3 * VLEN };

    /* tile(m, n, ...) with m and n as constants, for m <= ROWS and n <= 3. */
    #define TILE_CASE(tile, m, n, ...) case 4 * (m) + (n): tile(m, n, __VA_ARGS__); break;
    #define TILE_COLUMNS(tile, m, ...) \\
        TILE_CASE(tile, m, 1, __VA_ARGS__) TILE_CASE(tile, m, 2, __VA_ARGS__) TILE_CASE(tile, m, 3, __VA_ARGS__)
    #define TILE_FOUR_ROWS(tile, ...) \\
        TILE_COLUMNS(tile, 1, __VA_ARGS__) TILE_COLUMNS(tile, 2, __VA_ARGS__) \\
        TILE_COLUMNS(tile, 3, __VA_ARGS__) TILE_COLUMNS(tile, 4, __VA_ARGS__)
    #if defined(__AVX512F__) || defined(__aarch64__)
    #define TILE_ROWS(tile, ...) TILE_FOUR_ROWS(tile, __VA_ARGS__) \\
        TILE_COLUMNS(tile, 5, __VA_ARGS__) TILE_COLUMNS(tile, 6, __VA_ARGS__) \\
        TILE_COLUMNS(tile, 7, __VA_ARGS__) TILE_COLUMNS(tile, 8, __VA_ARGS__)
    #else
    #define TILE_ROWS(tile, ...) TILE_FOUR_ROWS(tile, __VA_ARGS__)
    #endif
    #define WITH_CONSTANT_SIZES(tile, m, n, ...) switch (4 * (m) + (n)) { TILE_ROWS(tile, __VA_ARGS__) }
    """
    ctypedef float real
    ctypedef float vec
    ctypedef float uvec
    ctypedef int ireal
    ctypedef int ivec
    ctypedef int uivec
    ctypedef unsigned char u8 "uint8_t"
    ctypedef unsigned char u8vec
    enum: ROWS, VL, PANEL, REAL_TYPENUM, REALSZ
    vec VZERO
    ivec IZERO
    vec VSET1(real) nogil
    ivec ISET1(int) nogil
    vec ZIP_LOW(vec, vec) nogil
    vec ZIP_HIGH(vec, vec) nogil
    vec EVENS(vec, vec) nogil
    vec ODDS(vec, vec) nogil
    vec VAND(vec, ivec) nogil
    vec VANDNOT(vec, ivec) nogil
    vec VSELECT(ivec, vec, vec) nogil
    ivec ISELECT(ivec, ivec, ivec) nogil
    ivec VLESS0(vec) nogil
    ivec VLESSEQ0(vec) nogil
    ivec VWINS(vec, vec) nogil
    ivec IEQUAL(ivec, int) nogil
    u8vec TO_BYTES(ivec) nogil
    ivec FROM_BYTES(u8vec) nogil
    real VSUM(vec) nogil
    vec VLOADN(const real*, Py_ssize_t) nogil
    void VSTOREN(real*, vec, Py_ssize_t) nogil
    u8vec LOAD_BYTES(const u8*, Py_ssize_t) nogil
    void STORE_BYTES(u8*, u8vec, Py_ssize_t) nogil
    real EXP(real) nogil
    real LOG(real) nogil
    real SQRT(real) nogil
