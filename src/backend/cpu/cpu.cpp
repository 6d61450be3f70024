#include "backend/cpu/cpu.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "backend/cpu/ops/ops.h"

namespace sluice {

CpuBackend::CpuBackend(Options options) : pool_(options.threads), isa_(options.isa) {
  require(available(isa_), [&] {
    return Error(Exit::usage, {fmt::format("this processor lacks {}", name_of(isa_)),
                               "run.isa",
                               {},
                               std::string(name_of(isa_)),
                               {fmt::format("run.isa = {}", name_of(best_isa()))}});
  });
  scratch_ = take(scratch_bytes * pool_.threads());
}

CpuBackend::~CpuBackend() {
  for (const Region& region : regions_) {
    ::munmap(region.data, static_cast<std::size_t>(region.bytes));
  }
}

std::byte* CpuBackend::take(std::int64_t bytes) {
  constexpr std::int64_t page = 4096;
  const auto refuse = [&](const char* reason) {
    return Error(Exit::memory, {fmt::format("cannot take {} bytes of memory: {}", bytes, reason),
                                {},
                                "memory for the whole plan before step 1",
                                {},
                                {"a smaller micro-batch", "plan.recompute = block"}});
  };
  require(bytes >= 0 && bytes < INT64_MAX - page, [&] { return refuse("no such size"); });
  const std::int64_t rounded = std::max((bytes + page - 1) / page * page, page);
  regions_.reserve(regions_.size() + 1);  // so that nothing fails once the memory is ours
  void* data = ::mmap(nullptr, static_cast<std::size_t>(rounded), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(data != MAP_FAILED, [&] { return refuse(std::strerror(errno)); });
  // Advice only: a kernel without huge pages refuses it, and nothing but speed is lost.
  (void)::madvise(data, static_cast<std::size_t>(rounded), MADV_HUGEPAGE);
  regions_.push_back({static_cast<std::byte*>(data), rounded});
  return regions_.back().data;
}

void CpuBackend::run(const Op& op, const Frame& frame) {
  std::visit([&](const auto& one) { sluice::run(*this, frame, one); }, op);
}

void CpuBackend::copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) {
  std::memcpy(device, host, static_cast<std::size_t>(bytes));
}

void CpuBackend::copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) {
  std::memcpy(host, device, static_cast<std::size_t>(bytes));
}

void CpuBackend::copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) {
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

std::span<std::byte> CpuBackend::scratch(int worker) {
  return {scratch_ + scratch_bytes * worker, static_cast<std::size_t>(scratch_bytes)};
}

}  // namespace sluice
