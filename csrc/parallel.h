// Numbered tasks shared out among ATen's threads. A task's work depends on its number alone, so
// results have the same bits for any number of threads; inside a task BLAS runs on one thread.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>

#include <atomic>

#include "denormals.h"
#include "regions.h"
#include "serial_blas.h"

namespace softhebb {

// Calls run(task, worker) for every task in [0, tasks), worker in [0, at::get_num_threads()).
template <typename F>
void for_each_task(int64_t tasks, const F& run) {
  if (tasks == 0) return;
  std::atomic<int64_t> next_task{0}, next_worker{0};
  in_parallel(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    FlushDenormals flush;
    SerialBlas serial;
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    const int64_t worker = next_worker++;
    for (int64_t task = next_task++; task < tasks; task = next_task++) run(task, worker);
  });
}

}  // namespace softhebb
