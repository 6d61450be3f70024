// Inputs for tests of ops: frames filled with random numbers of a fixed seed, and the list of
// interesting cases of every op that the kernels of a backend are held against.
//
// Numbers are rounded to their value's type, so that a float32 kernel starts from the same inputs
// as the double loop. Outputs are poisoned with NaN: an element that a kernel forgets to write
// shows.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "ops/reference.h"

namespace sluice {

// Builds the values of one frame. Ids count from 0 in the order of the calls.
class RandomFrame {
 public:
  explicit RandomFrame(std::uint64_t seed) : random_(seed) {}

  // Uniform numbers of standard deviation `deviation` around `mean`.
  Id random(const Shape& shape, double deviation = 1, double mean = 0, DType dtype = DType::f32);
  // Uniform integers in [low, high].
  Id integers(const Shape& shape, std::int64_t low, std::int64_t high);
  Id numbers(const Shape& shape, DType dtype, std::vector<double> values);
  Id poisoned(const Shape& shape, DType dtype = DType::f32);
  // Poisoned when the first micro-batch overwrites it, else what earlier ones left.
  Id accumulator(const Shape& shape, bool first, DType dtype = DType::f32);

  // Runs the reference, then rounds what it wrote to the types of the values: for cases that need
  // what a forward op left behind.
  void run(const Op& op);

  const RefValue& operator[](Id id) const { return values_[static_cast<std::size_t>(id)]; }
  RefValue& operator[](Id id) { return values_[static_cast<std::size_t>(id)]; }
  const std::vector<RefValue>& values() const { return values_; }

 private:
  double uniform();  // [0, 1)
  Id add(const Shape& shape, DType dtype, std::vector<double> values);

  std::mt19937_64 random_;
  std::vector<RefValue> values_;
};

struct OpCase {
  std::string label;  // "linear: 80 -> 320, bias"
  Op op;
  std::vector<RefValue> frame;
  bool first = true;
};

// Every op, at odd sizes that cross the edges of tiles, panels, chunks and K-blocks. All references
// together take about a second.
std::vector<OpCase> op_cases();

// AdamW over state of 8 and 16 bits. Apart from the list above because most of what they write are
// codes, where a last bit of float32 decides between neighbours: they are compared as codes.
std::vector<OpCase> coded_cases();

// The values that `op` writes, accumulates into or updates, each once.
std::vector<Id> written_by(const Op& op);

// The types of a frame's values, as shape rules want them.
std::vector<ValueType> types_of(std::span<const RefValue> frame);

// What the double loop makes of the case's frame.
std::vector<RefValue> expected_of(const OpCase& one);

// How close a kernel must come to the double loop: relative, of each written value in the 2-norm,
// for float32 sums over at most some thousands of numbers. An attention's error is that of its
// scores, which here reach 200, in an exponent. A bf16 value is computed in float32 and compared
// with the rounded exact one: the two differ only where the exact number lies next to the middle of
// two bf16 numbers, which are 2⁻⁸ apart. What is kept in float32 beside it is held to float32, but
// for the sums over a head's dlogits, which are bf16 in between.
inline constexpr double kernel_tolerance = 1e-6, bf16_kernel_tolerance = 2e-4;
double tolerance_of(const OpCase& one, DType type);

// The largest error of a kind, and the case that has it.
struct WorstError {
  double error = 0;
  std::string where = "nothing";
  void add(double found, const std::string& label) {
    if (found >= error) error = found, where = label;
  }
};

// ‖a - b‖ / ‖b‖ in double; ‖a‖ when b is zero; infinite when a holds a NaN or sizes differ.
double relative_error(std::span<const double> a, std::span<const double> b);

}  // namespace sluice
