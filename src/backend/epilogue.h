// What a matrix product does with its result before it stores it. Seen by host and device code.
#pragma once

#include <cstdint>

namespace sluice {

enum class Epilogue : std::uint8_t {
  none,
  bias,        // c = product + bias, a number for each column
  gelu,        // aux = product + bias, c = gelu(product + bias), tanh form
  gelu_slope,  // c = product * gelu'(aux), tanh form
};

constexpr bool has_bias(Epilogue e) { return e != Epilogue::none && e != Epilogue::gelu_slope; }
constexpr bool has_aux(Epilogue e) { return e == Epilogue::gelu || e == Epilogue::gelu_slope; }

}  // namespace sluice
