// 64- and 128-bit checksums (XXH3) and their printed forms. Not cryptographic: they find accidents.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

std::uint64_t hash64(const void* data, std::size_t bytes, std::uint64_t seed = 0);
inline std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) {
  return hash64(text.data(), text.size(), seed);
}
std::string hex64(std::uint64_t value);                        // 16 lower-case digits
std::string hash128_hex(const void* data, std::size_t bytes);  // 32 lower-case digits

// SHA-256, for files whose published hash we check.
std::string sha256_hex(const void* data, std::size_t bytes);

// XXH3-128 over pieces.
class Hasher128 {
 public:
  Hasher128();
  ~Hasher128();
  Hasher128(const Hasher128&) = delete;
  Hasher128& operator=(const Hasher128&) = delete;
  void add(const void* data, std::size_t bytes);
  std::string hex() const;

 private:
  void* state_;
};

}  // namespace sluice
