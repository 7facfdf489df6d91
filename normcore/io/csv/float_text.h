/* Text of float64: the fewest digits that restore it, as pyarrow casts it, in a third of the time.
   The C++ library does it where it has to_chars for floats; write_float is not to be called else. */
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <version>

/* Nothing here throws: the library's own handler would bring along what reads names of types. */
#ifdef __GLIBCXX__
namespace __cxxabiv1 {
extern std::terminate_handler __terminate_handler __attribute__((visibility("hidden")));
std::terminate_handler __terminate_handler = std::abort;
} // namespace __cxxabiv1
#endif

#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
static const int HAS_FLOAT_TEXT = 1;

static inline char *write_float(char *to, double value)
{
    if (std::isnan(value)) {
        *to++ = 'n', *to++ = 'a', *to++ = 'n';
        return to;
    }
    const double size = std::fabs(value);
    if (size == 0 || (size >= 1e-6 && size < 1e10) || std::isinf(value))
        return std::to_chars(to, to + 32, value, std::chars_format::fixed).ptr;
    char *end = std::to_chars(to, to + 32, value, std::chars_format::scientific).ptr;
    /* An exponent of one digit comes with a zero before it. */
    if (end[-2] == '0' && (end[-3] == '-' || end[-3] == '+')) {
        end[-2] = end[-1];
        --end;
    }
    return end;
}
#else
static const int HAS_FLOAT_TEXT = 0;

static inline char *write_float(char *to, double) { return to; }
#endif
