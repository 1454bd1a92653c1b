// Parallel regions of ATen's threads. An OpenMP that was built without ThreadSanitizer hides from it
// that threads begin after what came before their region and end before what comes after; in a
// build under that sanitizer it is told so.
#pragma once

#include <ATen/Parallel.h>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace softhebb {

#if defined(__SANITIZE_THREAD__)

// Of all regions, as a thread must not look for its own before it is told.
inline char region_forked, region_joined;

struct TellFork {
  TellFork() { __tsan_release(&region_forked); }
  ~TellFork() { __tsan_acquire(&region_joined); }
};

struct TellThread {
  TellThread() { __tsan_acquire(&region_forked); }
  ~TellThread() { __tsan_release(&region_joined); }
};

#else

struct TellFork {
  TellFork() {}
};

struct TellThread {
  TellThread() {}
};

#endif

// at::parallel_for
template <typename F>
void in_parallel(int64_t begin, int64_t end, int64_t grain, const F& run) {
  TellFork fork;
  at::parallel_for(begin, end, grain, [&](int64_t first, int64_t last) {
    TellThread thread;
    run(first, last);
  });
}

}  // namespace softhebb
