// A TestFrame on the GPU: its blocks, guards and all, are copied to the device, an op runs there,
// and they come back, so that everything that is asked of a TestFrame can be asked afterwards.
#pragma once

#include <string>

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
    const Placed placed = enqueue(op, frame, layer);
    std::string all = bytes_of(placed.used);
    for (const Piece& one : placed.pieces)
      std::memcpy(one.host, all.data() + one.offset, static_cast<std::size_t>(one.bytes));
  }
  // The same without what comes back: the bytes of all values afterwards, guards and all.
  std::string after(const OpCase& one, TestFrame& frame) {
    return bytes_of(enqueue(one.op, frame, 0).values);
  }

 private:
  static constexpr std::int64_t guard = 256;
  struct Piece {
    std::byte* host;
    std::int64_t offset, bytes;
  };
  struct Placed {
    std::vector<Piece> pieces;
    std::int64_t values = 0, used = 0;  // bytes: up to the workspace, and with it
  };

  std::string bytes_of(std::int64_t count) {
    std::string out(static_cast<std::size_t>(count), '\0');
    gpu_.copy_out(reinterpret_cast<std::byte*>(out.data()), data_, count);
    return out;
  }

  Placed enqueue(const Op& op, TestFrame& frame, int layer) {
    const Frame host = frame.frame();
    Placed out;
    const auto place = [&](std::byte* data, std::int64_t bytes) {
      const std::int64_t whole = (bytes + 2 * guard + 255) / 256 * 256;
      require(out.used + whole <= bytes_, [] { return Error("the test's device memory is full"); });
      out.pieces.push_back({data - guard, out.used, bytes + 2 * guard});
      out.used += whole;
      return data_ + out.pieces.back().offset + guard;
    };
    std::vector<Tensor> values;
    for (const Tensor& value : host.values) {
      values.emplace_back();
      if (!value) continue;
      std::byte* const at = place(static_cast<std::byte*>(value.raw()), value.bytes());
      values.back() = Tensor(at, value.dtype(), value.shape());
    }
    out.values = out.used;
    const auto scratch = static_cast<std::int64_t>(host.workspace.size());
    std::byte* const workspace = place(host.workspace.data(), scratch);
    image_.assign(static_cast<std::size_t>(out.used), '\0');
    for (const Piece& one : out.pieces)
      std::memcpy(image_.data() + one.offset, one.host, static_cast<std::size_t>(one.bytes));
    gpu_.copy_in(data_, reinterpret_cast<const std::byte*>(image_.data()), out.used);
    gpu_.run(op, {.values = values,
                  .workspace = {workspace, host.workspace.size()},
                  .first = host.first,
                  .layer = layer});
    gpu_.finish();
    return out;
  }

  std::string image_;
  CudaBackend& gpu_;
  std::byte* data_;
  std::int64_t bytes_;
};

}  // namespace sluice
