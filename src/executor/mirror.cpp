#include "executor/mirror.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace sluice {

Mirror::Mirror(Backend& backend, std::byte* arena, std::int64_t bytes)
    : backend_(backend), arena_(arena), bytes_(bytes), copies_(reserve()) {}

Mirror::~Mirror() {
  ::munmap(copies_, static_cast<std::size_t>(bytes_));
  if (observed_ != nullptr) ::munmap(observed_, static_cast<std::size_t>(bytes_));
}

std::byte* Mirror::reserve() const {
  void* const data = ::mmap(nullptr, static_cast<std::size_t>(bytes_), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(data != MAP_FAILED, [&] {
    return Error(Exit::memory, {fmt::format("cannot reserve {} bytes of addresses", bytes_),
                                {},
                                {},
                                std::strerror(errno),
                                {}});
  });
  // Fewer faults when gigabytes of weights come; where there are no huge pages, small ones do.
  (void)::madvise(data, static_cast<std::size_t>(bytes_), MADV_HUGEPAGE);
  return static_cast<std::byte*>(data);
}

std::byte* Mirror::see(int layer, std::int64_t offset, std::int64_t bytes, Access access) {
  const bool changes = access != Access::read;
  std::vector<Seen>& seen = of(layer).seen;
  const auto before = std::find_if(seen.begin(), seen.end(), [&](const Seen& one) {
    return one.offset == offset && one.bytes == bytes;
  });
  // A table that belongs to no layer may be read while a run goes on, so it is read again.
  const bool known = before != seen.end();
  if (access != Access::write && (!known || (layer == no_layer && !before->changes)))
    backend_.copy_out(copies_ + offset, arena_ + offset, bytes);
  if (known)
    before->changes |= changes;
  else
    seen.push_back({offset, bytes, changes});
  return copies_ + offset;
}

std::byte* Mirror::observed(std::int64_t offset) {
  if (observed_ == nullptr) observed_ = reserve();
  return observed_ + offset;
}

Mirror::Layer& Mirror::of(int layer) {
  if (layer == no_layer) return globals_;
  if (layers_[1].layer == layer) std::swap(layers_[0], layers_[1]);
  if (layers_[0].layer != layer) {
    give_back(layers_[1]);
    std::swap(layers_[0], layers_[1]);
    layers_[0].layer = layer;
  }
  return layers_[0];
}

// Whole pages of what was seen are the system's again.
void Mirror::give_back(Layer& layer) {
  constexpr std::int64_t page = 4096;
  for (const Seen& one : layer.seen) {
    if (one.changes) backend_.copy_in(arena_ + one.offset, copies_ + one.offset, one.bytes);
    const std::int64_t first = (one.offset + page - 1) / page * page;
    const std::int64_t last = (one.offset + one.bytes) / page * page;
    if (layer.layer != no_layer && last > first)
      (void)::madvise(copies_ + first, static_cast<std::size_t>(last - first), MADV_DONTNEED);
  }
  layer.seen.clear();
  layer.layer = no_layer;
}

void Mirror::close() {
  for (Layer& layer : layers_) give_back(layer);
  give_back(globals_);
}

}  // namespace sluice
