"""What the processor can do."""

# Design: compilers know how to ask the processor and the operating system for both; where they
# do not, every answer is no and the baseline build serves.

__all__ = ["supports"]

cdef extern from *:
    """
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    static int has_avx2(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    static int has_avx512(void)
    {
        return has_avx2() && __builtin_cpu_supports("avx512f")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
    """
    bint has_avx2()
    bint has_avx512()


def supports(str instruction_set):
    """Return whether this processor runs the kernels built for an instruction set."""
    if instruction_set == "avx2":
        return has_avx2()
    if instruction_set == "avx512":
        return has_avx512()
    return instruction_set == "baseline"
