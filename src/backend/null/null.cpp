#include "backend/null/null.h"

namespace sluice {

std::byte* NullBackend::take(std::int64_t bytes) {
  bytes_taken_ += bytes;
  return nullptr;
}

std::byte* NullBackend::take_host(std::int64_t bytes) {
  host_bytes_taken_ += bytes;
  return nullptr;
}

void NullBackend::run(const Op&, const Frame&) { ++ops_; }

void NullBackend::copy_in(std::byte*, const std::byte*, std::int64_t bytes) {
  bytes_copied_ += bytes;
}

void NullBackend::copy_out(std::byte*, const std::byte*, std::int64_t bytes) {
  bytes_copied_out_ += bytes;
}

void NullBackend::copy_within(std::byte*, const std::byte*, std::int64_t) {}

}  // namespace sluice
