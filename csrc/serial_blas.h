// Keeps BLAS on this thread serial while alive. Inside a parallel region MKL does not start
// threads of its own anyway, but it still picks its algorithm, and so the bits of its results, by
// the number of threads that it is allowed.
#pragma once

#if defined(__linux__)
extern "C" int MKL_Set_Num_Threads_Local(int) __attribute__((weak));
#endif

namespace softhebb {

class SerialBlas {
 public:
#if defined(__linux__)
  SerialBlas() : saved_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0) {}
  ~SerialBlas() {
    if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(saved_);
  }
#else
  SerialBlas() = default;
#endif
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;

 private:
  int saved_ = 0;
};

}  // namespace softhebb
