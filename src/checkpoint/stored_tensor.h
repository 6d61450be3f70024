// One tensor in a mapped file, and its numbers in the types that Sluice computes in. Pure
// functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace sluice {

struct StoredTensor {
  std::string name;
  std::string dtype;                  // safetensors' word: "F32", "F16", "BOOL" …
  std::vector<std::int64_t> shape;    // empty: a scalar
  std::vector<std::int64_t> strides;  // in numbers; empty: row-major without gaps
  std::span<const std::byte> bytes;   // from the first number to the last one; maybe unaligned
  std::size_t file = 0;               // which of the files holds it

  std::int64_t count() const;
  std::string text() const;  // "F16 [3, 4]"
};

// Whether its numbers can be read as float32: F32, F16 or BF16.
bool is_readable(const StoredTensor& tensor);

// Numbers [first, first + out.size()) in row-major order, exactly. REQUIRES: is_readable(), inside
// the tensor.
void read_numbers(const StoredTensor& tensor, std::int64_t first, std::span<float> out);

// Of numbers that were read in order, the bytes that are done with. Those of a transposed tensor
// lie anywhere in it: they are done with after the last number.
std::span<const std::byte> bytes_of_piece(const StoredTensor& tensor, std::int64_t first,
                                          std::int64_t count);

// IEEE half precision: sign, 5 bits of exponent, 10 of fraction.
float half_to_float(std::uint16_t half);
std::uint16_t float_to_half(float x);  // to nearest, ties to even

}  // namespace sluice
