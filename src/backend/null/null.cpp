#include "backend/null/null.h"

namespace sluice {

std::byte* NullBackend::take(std::int64_t bytes) {
  bytes_taken_ += bytes;
  return nullptr;
}

void NullBackend::run(const Op&, const Frame&) { ++ops_; }

void NullBackend::copy_in(std::byte*, const std::byte*, std::int64_t bytes) {
  bytes_copied_ += bytes;
}

}  // namespace sluice
