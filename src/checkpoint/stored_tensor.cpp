#include "checkpoint/stored_tensor.h"

#include <bit>
#include <cstring>

namespace sluice {
namespace {

template <class T>
T number_at(std::span<const std::byte> bytes, std::int64_t index) {
  T out;  // a file's numbers need not be aligned
  std::memcpy(&out, bytes.data() + static_cast<std::size_t>(index) * sizeof(T), sizeof(T));
  return out;
}

// Calls put(i, place) for the numbers [first, first + count): where each lies, counted in numbers.
template <class Put>
void walk(const StoredTensor& tensor, std::int64_t first, std::int64_t count, Put put) {
  const std::size_t rank = tensor.shape.size();
  std::vector<std::int64_t> at(rank);
  std::int64_t place = 0, rest = first;
  for (std::size_t i = rank; i-- > 0; rest /= tensor.shape[i]) {
    at[i] = rest % tensor.shape[i];
    place += at[i] * tensor.strides[i];
  }
  for (std::int64_t n = 0; n < count; ++n) {
    put(n, place);
    for (std::size_t i = rank; i-- > 0;) {
      place += tensor.strides[i];
      if (++at[i] < tensor.shape[i]) break;
      place -= at[i] * tensor.strides[i];
      at[i] = 0;
    }
  }
}

template <class Convert>
void read_all(const StoredTensor& tensor, std::int64_t first, std::span<float> out,
              Convert convert) {
  const auto count = static_cast<std::int64_t>(out.size());
  if (tensor.strides.empty()) {
    for (std::int64_t i = 0; i < count; ++i)
      out[static_cast<std::size_t>(i)] = convert(tensor.bytes, first + i);
    return;
  }
  walk(tensor, first, count, [&](std::int64_t i, std::int64_t place) {
    out[static_cast<std::size_t>(i)] = convert(tensor.bytes, place);
  });
}

}  // namespace

std::int64_t StoredTensor::count() const {
  std::int64_t out = 1;
  for (const std::int64_t size : shape) out *= size;
  return out;
}

std::string StoredTensor::text() const {
  return fmt::format("{} [{}]", dtype, fmt::join(shape, ", "));
}

bool is_readable(const StoredTensor& tensor) {
  return tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16";
}

void read_numbers(const StoredTensor& tensor, std::int64_t first, std::span<float> out) {
  if (tensor.dtype == "F32" && tensor.strides.empty()) {
    const auto at = static_cast<std::size_t>(first) * sizeof(float);
    std::memcpy(out.data(), tensor.bytes.subspan(at, out.size_bytes()).data(), out.size_bytes());
  } else if (tensor.dtype == "F32") {
    read_all(tensor, first, out, number_at<float>);
  } else if (tensor.dtype == "BF16") {
    read_all(tensor, first, out, [](std::span<const std::byte> bytes, std::int64_t i) {
      return static_cast<float>(number_at<bf16>(bytes, i));
    });
  } else {
    read_all(tensor, first, out, [](std::span<const std::byte> bytes, std::int64_t i) {
      return half_to_float(number_at<std::uint16_t>(bytes, i));
    });
  }
}

std::span<const std::byte> bytes_of_piece(const StoredTensor& tensor, std::int64_t first,
                                          std::int64_t count) {
  if (!tensor.strides.empty())
    return first + count == tensor.count() ? tensor.bytes : tensor.bytes.first(0);
  const auto size = tensor.bytes.size() / static_cast<std::size_t>(tensor.count());
  return tensor.bytes.subspan(static_cast<std::size_t>(first) * size,
                              static_cast<std::size_t>(count) * size);
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = static_cast<float>(fraction) * 0x1p-24f;  // exact
  return sign == 0 ? small : -small;
}

std::uint16_t float_to_half(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
  const auto half = [&](std::uint32_t below) { return static_cast<std::uint16_t>(sign | below); };
  if (rest > 0x7f800000u) return half(0x7e00u);   // NaN
  if (rest >= 0x477ff000u) return half(0x7c00u);  // 65520 and beyond
  // Below 2^-14 places are 2^-24 apart, as those of numbers around 0.5: adding that rounds.
  if (rest < 0x38800000u)
    return half(std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) + 0.5f) & 0x7ffu);
  return half((rest + 0xfffu + (rest >> 13 & 1u) - 0x38000000u) >> 13);
}

}  // namespace sluice
