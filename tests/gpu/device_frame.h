// A TestFrame on the GPU: its blocks, guards and all, are copied to the device, an op runs there,
// and they come back, so that everything that is asked of a TestFrame can be asked afterwards.
#pragma once

#include <set>

#include "backend/cpu/ops/test_frame.h"
#include "backend/cuda/gpu.h"

namespace sluice {

// Device memory that is used again for every frame.
class DeviceRoom {
 public:
  DeviceRoom(CudaBackend& gpu, std::int64_t bytes)
      : gpu_(gpu), data_(gpu.take(bytes)), bytes_(bytes) {}

  // Runs `op` on copies of what `frame` holds, which come back into it.
  void run(const Op& op, TestFrame& frame, int layer = 0) {
    const std::vector<Piece> pieces = enqueue(op, frame, layer);
    for (const Piece& one : pieces) gpu_.copy_out(one.host, one.device, one.bytes);
  }
  // The same without what comes back: the bytes of each value that was written, guards and all.
  std::vector<std::string> written(const OpCase& one, TestFrame& frame) {
    std::vector<std::string> out;
    std::set<std::byte*> wanted;
    for (const Id id : written_by(one.op))
      wanted.insert(static_cast<std::byte*>(frame.frame()[id].raw()) - guard);
    for (const Piece& piece : enqueue(one.op, frame, 0)) {
      if (!wanted.contains(piece.host)) continue;
      out.emplace_back(static_cast<std::size_t>(piece.bytes), '\0');
      gpu_.copy_out(reinterpret_cast<std::byte*>(out.back().data()), piece.device, piece.bytes);
    }
    return out;
  }

 private:
  static constexpr std::int64_t guard = 256;
  struct Piece {
    std::byte *host, *device;
    std::int64_t bytes;
  };

  std::vector<Piece> enqueue(const Op& op, TestFrame& frame, int layer) {
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
    return pieces;
  }

  CudaBackend& gpu_;
  std::byte* data_;
  std::int64_t bytes_;
};

}  // namespace sluice
