// For tests of kernels: the values of an OpCase in real memory, laid out as in a run (256-byte
// aligned), each between guard zones, with poisoned workspace of exactly the promised size.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu.h"
#include "ops/random_frame.h"

namespace sluice {

// The numbers of `value` as its element type stores them, in double.
inline double stored(DType dtype, double x) {
  return visit(dtype, [&]<class T>() -> double {
    if constexpr (std::is_same_v<T, bf16>) {
      return static_cast<float>(bf16(static_cast<float>(x)));
    } else {
      return static_cast<double>(static_cast<T>(x));
    }
  });
}

class TestFrame {
 public:
  // Cases may share a frame of many values: `operands_only` leaves out what the op does not touch.
  explicit TestFrame(const OpCase& one, Workers workers = {}, bool operands_only = false)
      : first_(one.first) {
    std::vector<bool> used(one.frame.size(), !operands_only);
    for_each_operand(one.op, [&](Id id, Access) { used[static_cast<std::size_t>(id)] = true; });
    for (std::size_t i = 0; i < one.frame.size(); ++i) {
      const RefValue& value = one.frame[i];
      const std::int64_t bytes = value.type.shape.count() * size_of(value.type.dtype);
      blocks_.push_back(make_block(used[i] ? bytes : 0));
      if (!used[i]) {
        tensors_.emplace_back();
        continue;
      }
      tensors_.emplace_back(blocks_.back().data(), value.type.dtype, value.type.shape);
      write(value.numbers);
    }
    const std::vector<ValueType> types = types_of(one.frame);
    check(one.op, types);
    blocks_.push_back(make_block(workspace_bytes(one.op, types, workers)));
    std::memset(blocks_.back().data(), 0xff, static_cast<std::size_t>(blocks_.back().bytes));
  }

  Frame frame() {
    Block& last = blocks_.back();
    return {.values = tensors_,
            .workspace = {last.data(), static_cast<std::size_t>(last.bytes)},
            .first = first_};
  }

  std::vector<double> numbers(Id id) const {
    const Tensor& tensor = tensors_[static_cast<std::size_t>(id)];
    return visit(tensor.dtype(), [&]<class T>() {
      std::vector<double> result;
      for (const T x : tensor.values<T>()) {
        if constexpr (std::is_same_v<T, bf16>) {
          result.push_back(static_cast<float>(x));
        } else {
          result.push_back(static_cast<double>(x));
        }
      }
      return result;
    });
  }

  std::string bytes(Id id) const {
    const Tensor& tensor = tensors_[static_cast<std::size_t>(id)];
    return {static_cast<const char*>(tensor.raw()), static_cast<std::size_t>(tensor.bytes())};
  }

  // Whether every byte around the values and the workspace is as it was.
  bool guards_hold() const {
    for (const Block& block : blocks_) {
      for (std::int64_t i = 0; i < guard; ++i) {
        if (block.data()[-1 - i] != mark || block.data()[block.bytes + i] != mark) return false;
      }
    }
    return true;
  }

 private:
  static constexpr std::int64_t guard = 256;
  static constexpr std::byte mark{0x5a};
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::int64_t bytes;
    std::byte* data() const { return memory.get() + guard; }
  };

  static Block make_block(std::int64_t bytes) {
    const std::int64_t whole = (2 * guard + bytes + 255) / 256 * 256;
    Block block{{}, bytes};
    block.memory.reset(
        static_cast<std::byte*>(std::aligned_alloc(256, static_cast<std::size_t>(whole))));
    std::memset(block.memory.get(), static_cast<int>(mark), static_cast<std::size_t>(whole));
    return block;
  }

  void write(const std::vector<double>& numbers) {
    visit(tensors_.back().dtype(), [&]<class T>() {
      T* to = tensors_.back().data<T>();
      for (const double x : numbers) {
        if constexpr (std::is_same_v<T, bf16>) {
          *to++ = bf16(static_cast<float>(x));
        } else {
          *to++ = static_cast<T>(x);
        }
      }
    });
  }

  std::vector<Block> blocks_;  // one per value, then the workspace
  std::vector<Tensor> tensors_;
  bool first_;
};

// The relative error of one value of `result`, against that of a reference (rounded to its type).
inline double error_of(Id id, const TestFrame& result, std::span<const RefValue> expected) {
  const RefValue& value = expected[static_cast<std::size_t>(id)];
  std::vector<double> numbers = value.numbers;
  for (double& x : numbers) x = stored(value.type.dtype, x);
  return relative_error(result.numbers(id), numbers);
}

// The worst relative error of what `one` wrote into `result`.
inline double worst_error(const OpCase& one, const TestFrame& result,
                          std::span<const RefValue> expected) {
  double worst = 0;
  for (const Id id : written_by(one.op)) worst = std::max(worst, error_of(id, result, expected));
  return worst;
}

// Whether two runs of `one` wrote the same bits.
inline bool same_bits(const OpCase& one, const TestFrame& a, const TestFrame& b) {
  for (const Id id : written_by(one.op)) {
    if (a.bytes(id) != b.bytes(id)) return false;
  }
  return true;
}

}  // namespace sluice
