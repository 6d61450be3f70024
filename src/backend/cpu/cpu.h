// The CPU backend: our own pool and kernels. Sums have one order, so bits do not depend on threads.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/pool.h"

namespace sluice {

class CpuBackend final : public Backend {
 public:
  struct Options {
    int threads = 1;
    Isa isa = Isa::portable;
  };
  explicit CpuBackend(Options options);
  ~CpuBackend() override;

  std::string_view name() const override { return "cpu"; }
  std::byte* take(std::int64_t bytes) override;
  void run(const Op& op, const Frame& frame) override;
  std::byte* take_host(std::int64_t bytes) override { return take(bytes); }
  void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override;
  void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override;
  void copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) override;

  Pool& pool() { return pool_; }
  Isa isa() const { return isa_; }
  // Scratch of one worker of the pool, for tiles: fixed size, taken at construction, 64-byte
  // aligned.
  static constexpr std::int64_t scratch_bytes = 4 << 20;
  std::span<std::byte> scratch(int worker);

 private:
  struct Region {
    std::byte* data;
    std::int64_t bytes;
  };
  Pool pool_;
  Isa isa_;
  std::vector<Region> regions_;
  std::byte* scratch_ = nullptr;
};

}  // namespace sluice
