// One source, several instruction sets: SOFTHEBB_KERNEL compiles an inlined body once per x86
// level and picks the best at run time. Elsewhere, and with SOFTHEBB_ONE_LEVEL, the baseline of the
// compiler serves (NEON on ARM).
#pragma once

#define SOFTHEBB_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__linux__) && !defined(SOFTHEBB_ONE_LEVEL)

#include <ATen/Version.h>

namespace softhebb {

// Of x86-64: what the machine has, and no more than torch uses (ATEN_CPU_CAPABILITY).
inline int cpu_level() {
  static const int level = [] {
    __builtin_cpu_init();
    const std::string allowed = at::get_cpu_capability();
    if (allowed == "DEFAULT") return 1;
    if (allowed != "AVX2" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      return 4;
    }
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 3 : 1;
  }();
  return level;
}

}  // namespace softhebb

#define SOFTHEBB_KERNEL(name, Arguments)                                             \
  template <typename T>                                                              \
  __attribute__((target("arch=x86-64-v4"))) void name##_v4(const Arguments<T>& a) {  \
    name##_body<T>(a);                                                               \
  }                                                                                  \
  template <typename T>                                                              \
  __attribute__((target("arch=x86-64-v3"))) void name##_v3(const Arguments<T>& a) {  \
    name##_body<T>(a);                                                               \
  }                                                                                  \
  template <typename T>                                                              \
  void name(const Arguments<T>& a) {                                                 \
    const int level = cpu_level();                                                   \
    level == 4 ? name##_v4<T>(a) : level == 3 ? name##_v3<T>(a) : name##_body<T>(a); \
  }                                                                                  \
  template void name<float>(const Arguments<float>&);                                \
  template void name<double>(const Arguments<double>&);

#else

#define SOFTHEBB_KERNEL(name, Arguments)              \
  template <typename T>                               \
  void name(const Arguments<T>& a) {                  \
    name##_body<T>(a);                                \
  }                                                   \
  template void name<float>(const Arguments<float>&); \
  template void name<double>(const Arguments<double>&);

#endif
