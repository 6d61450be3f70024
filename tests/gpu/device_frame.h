// A TestFrame on the GPU: its blocks, guards and all, are copied to the device, an op runs there,
// and they come back, so that everything that is asked of a TestFrame can be asked afterwards.
#pragma once

#include "backend/cpu/ops/test_frame.h"
#include "backend/cuda/gpu.h"

namespace sluice {

// Device memory that is used again for every frame.
class DeviceRoom {
 public:
  DeviceRoom(CudaBackend& gpu, std::int64_t bytes)
      : gpu_(gpu), data_(gpu.take(bytes)), bytes_(bytes) {}

  // Runs `op` on copies of what `frame` holds, `times` times without a look in between.
  void run(const Op& op, TestFrame& frame, int layer = 0) {
    constexpr std::int64_t guard = 256;
    const Frame host = frame.frame();
    std::vector<Tensor> values;
    std::vector<Piece> pieces;
    std::int64_t used = 0;
    const auto place = [&](std::byte* data, std::int64_t bytes) {
      const std::int64_t whole = (bytes + 2 * guard + 255) / 256 * 256;
      require(used + whole <= bytes_, [] { return Error("the test's device memory is full"); });
      pieces.push_back({data - guard, data_ + used, bytes + 2 * guard});
      used += whole;
      return pieces.back().device + guard;
    };
    for (const Tensor& value : host.values) {
      if (!value) {
        values.emplace_back();
        continue;
      }
      std::byte* const at = place(static_cast<std::byte*>(value.raw()), value.bytes());
      values.emplace_back(at, value.dtype(), value.shape());
    }
    const auto scratch = static_cast<std::int64_t>(host.workspace.size());
    std::byte* const workspace = place(host.workspace.data(), scratch);
    for (const Piece& one : pieces) gpu_.copy_in(one.device, one.host, one.bytes);
    gpu_.run(op, {.values = values,
                  .workspace = {workspace, host.workspace.size()},
                  .first = host.first,
                  .layer = layer});
    gpu_.finish();
    for (const Piece& one : pieces) gpu_.copy_out(one.host, one.device, one.bytes);
  }

 private:
  struct Piece {
    std::byte *host, *device;
    std::int64_t bytes;
  };
  CudaBackend& gpu_;
  std::byte* data_;
  std::int64_t bytes_;
};

}  // namespace sluice
