// Where the kernels' time goes: the CPU time of every part, summed over threads, while asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

namespace softhebb {

enum class Part { im2col, transforms, products, competition, pooling, apply, count };

struct Profile {
  static inline std::atomic<bool> on{false};
  static inline std::atomic<int64_t> nanoseconds[static_cast<int>(Part::count)] = {};
};

// Its lifetime, less that of others inside, counts as time of a part.
class Timed {
 public:
  explicit Timed(Part part) : part_(part), on_(Profile::on.load(std::memory_order_relaxed)) {
    if (!on_) return;
    outer_ = current();
    current() = this;
    begin_ = now();
  }
  ~Timed() {
    if (!on_) return;
    const int64_t elapsed = now() - begin_;
    current() = outer_;
    if (outer_) outer_->inside_ += elapsed;
    Profile::nanoseconds[static_cast<int>(part_)] += elapsed - inside_;
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  static Timed*& current() {
    thread_local Timed* timed = nullptr;
    return timed;
  }
  static int64_t now() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * int64_t{1000000000} + t.tv_nsec;
  }

  const Part part_;
  const bool on_;
  Timed* outer_ = nullptr;
  int64_t begin_ = 0, inside_ = 0;
};

}  // namespace softhebb
