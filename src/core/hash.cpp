#include "core/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace sluice {
namespace {

// The printed form is the number's big-endian hexadecimal: what `xxhsum -H2` prints.
std::string hex128(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::uint64_t hash64(const void* data, std::size_t bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

std::string hex64(std::uint64_t value) { return fmt::format("{:016x}", value); }

std::string hash128_hex(const void* data, std::size_t bytes) {
  return hex128(XXH3_128bits(data, bytes));
}

Hasher128::Hasher128() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}

Hasher128::~Hasher128() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Hasher128::add(const void* data, std::size_t bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), data, bytes);
}

std::string Hasher128::hex() const {
  return hex128(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_)));
}

}  // namespace sluice
