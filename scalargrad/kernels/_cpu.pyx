"""What this CPU can run. Compiled without any special instructions, and so safe to ask anywhere."""

cdef extern from *:
    """
    /* The features that -march=x86-64-v3 and -v4 let the compiler use and that GCC and Clang can ask for. The answer
       includes whether the operating system saves the wide registers. */
    #define EACH_FEATURE(ask) \\
        ask("sse4.2") ask("avx") ask("avx2") ask("fma") ask("bmi") ask("bmi2") \\
        ask("avx512f") ask("avx512bw") ask("avx512cd") ask("avx512dq") ask("avx512vl")
    #define ASK_NAME(name) name,
    static const char* const FEATURE_NAMES[] = { EACH_FEATURE(ASK_NAME) };
    enum { N_FEATURES = sizeof(FEATURE_NAMES) / sizeof(FEATURE_NAMES[0]) };
    static void ask_cpu(int* answers) {
    #if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
    #define ASK_CPU(name) *answers++ = __builtin_cpu_supports(name) != 0;
        __builtin_cpu_init();
        EACH_FEATURE(ASK_CPU)
    #else
        for (int i = 0; i < N_FEATURES; i++) answers[i] = 0;
    #endif
    }
    """
    enum: N_FEATURES
    const char** FEATURE_NAMES
    void ask_cpu(int* answers)


def features():
    """The instruction sets that matter to the kernels, of those this CPU has."""
    cdef int answers[N_FEATURES]
    cdef int i
    ask_cpu(answers)
    return [FEATURE_NAMES[i].decode() for i in range(N_FEATURES) if answers[i]]


def instruction_sets():
    """The kernels' instruction sets that this CPU runs, fastest first."""
    present = set(features())
    runnable = ["base"]
    if {"sse4.2", "avx", "avx2", "fma", "bmi", "bmi2"} <= present:
        runnable.insert(0, "v3")
        if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= present:
            runnable.insert(0, "v4")
    return runnable
