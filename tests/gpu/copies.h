// Copies both ways between pinned host memory and the GPU, on streams and threads of their own,
// until the object dies: what streaming does beside a kernel.
#pragma once

#include <atomic>
#include <exception>
#include <stop_token>
#include <thread>

#include "backend/cuda/gpu.h"

namespace sluice {

class Copies {
 public:
  static constexpr std::int64_t bytes = 4 << 20;  // what is beside it waits for one of these

  Copies()
      : from_(gpu_.take_host(bytes)),
        to_(gpu_.take_host(bytes)),
        device_(gpu_.take(2 * bytes)),
        in_([this](const std::stop_token& stop) {
          repeat(stop, [this] { gpu_.copy_in(device_, from_, bytes); });
        }),
        out_([this](const std::stop_token& stop) {
          repeat(stop, [this] { gpu_.copy_out(to_, device_ + bytes, bytes); });
        }) {}

  // Copies that have ended; throws what one of them threw.
  std::int64_t ended() const {
    require(!failed_, [] { return Error("a copy failed"); });
    return ended_;
  }

 private:
  template <class Copy>
  void repeat(const std::stop_token& stop, Copy copy) {
    try {
      for (; !stop.stop_requested(); ++ended_) copy();
    } catch (const std::exception&) {
      failed_ = true;
    }
  }

  CudaBackend gpu_{0};
  std::byte *from_, *to_, *device_;
  std::atomic<std::int64_t> ended_ = 0;
  std::atomic<bool> failed_ = false;
  std::jthread in_, out_;  // stopped first
};

}  // namespace sluice
