// What each sanitizer must report, and a region of threads in which there is nothing to report.
#include "../../csrc/regions.h"

#include <vector>

extern "C" {

int read_beyond(int n) {
  std::vector<int> values(n, 1);
  return values.data()[n];
}

int add_too_much(int n) { return n + 2147483647; }

long race(long n) {
  long total = 0;
  softhebb::in_parallel(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) total += i;
  });
  return total;
}

long no_race(long n) {
  std::vector<long> parts(n, 1);
  for (int round = 0; round < 100; ++round) {
    softhebb::in_parallel(0, n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) parts[i] += i;
    });
    parts[0] += parts[n - 1];
  }
  return parts[0];
}
}
