// For tests of tensors with more than 2^31 elements: memory that is reserved and never filled, of
// which only what is touched becomes resident; a runner that notes which ops ran in which form; and
// the cases, each of which is one test in a process of its own (beyond_test.cpp).
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/ops/ops.h"
#include "backend/cpu/ops/tiles.h"

namespace sluice {

inline constexpr std::int64_t border = std::int64_t{1} << 31;

// The values of one op over address space with nothing behind it until it is written. Pages that
// are only read stay the system's page of zeros.
class Reserved {
 public:
  Reserved() = default;
  ~Reserved() {
    for (const auto& [data, bytes] : memory_) ::munmap(data, bytes);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;

  Id add(const Shape& shape, DType dtype = DType::f32) {
    tensors_.emplace_back(take(shape.count() * size_of(dtype)), dtype, shape);
    types_.push_back({dtype, shape});
    return static_cast<Id>(tensors_.size() - 1);
  }
  template <class T>
  T* at(Id id, std::int64_t element = 0) const {
    return (*this)[id].data<T>() + element;
  }
  const Tensor& operator[](Id id) const { return tensors_[static_cast<std::size_t>(id)]; }
  Types types() const { return types_; }

  // The frame for `op`, which its shape rule has passed, with the workspace that it asks for.
  Frame frame(const Op& op, bool first) {
    check(op, types_);
    const auto bytes = workspace_bytes(op, types_, {});
    if (bytes > static_cast<std::int64_t>(workspace_.size()))
      workspace_ = {static_cast<std::byte*>(take(bytes)), static_cast<std::size_t>(bytes)};
    return {.values = tensors_, .workspace = workspace_, .first = first};
  }

 private:
  void* take(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(count);
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(data != MAP_FAILED, [] { return Error("cannot reserve address space"); });
    (void)::madvise(data, bytes, MADV_NOHUGEPAGE);  // residency as fine as it can be
    memory_.emplace_back(data, bytes);
    return data;
  }
  std::vector<std::pair<void*, std::size_t>> memory_;
  std::vector<Tensor> tensors_;
  std::vector<ValueType> types_;
  std::span<std::byte> workspace_;
};

// What a kernel is called in the list of cases: the op's name and those of its operands' types that
// select another kernel ("adamw bf16 i16"); of a rounding, what it rounds to.
inline std::string form_of(const Op& op, Types types) {
  std::set<DType> found;
  for_each_operand(op,
                   [&](Id id, Access) { found.insert(types[static_cast<std::size_t>(id)].dtype); });
  std::string form = name_of(op);
  for (const DType type : {DType::bf16, DType::i16, DType::u8})
    if (found.count(type) != 0) form += fmt::format(" {}", name_of(type));
  if (const auto* round = std::get_if<RoundGradient>(&op))
    form += std::array{" f32", " bf16", " int8"}[static_cast<std::size_t>(round->format)];
  return form;
}

// Runs ops, all of one or some tiles of it, and notes their forms.
struct Beyond {
  CpuBackend& cpu;
  std::set<std::string>& ran;

  void run(Reserved& values, const Op& op, Tiles tiles = {}, bool first = true) {
    const Frame frame = values.frame(op, first);
    ran.insert(form_of(op, values.types()));
    std::visit(
        [&](const auto& one) {
          if constexpr (requires { sluice::run(cpu, frame, one, tiles); }) {
            sluice::run(cpu, frame, one, tiles);
          } else {
            require(tiles.first == 0 && tiles.last == INT64_MAX,
                    [&] { return Error(fmt::format("{} is not cut into tiles", one.name)); });
            sluice::run(cpu, frame, one);
          }
        },
        op);
  }
};

struct BeyondCase {
  std::string label;
  std::set<std::string> forms = {};  // that it runs, all of them and no others
  std::function<void(Beyond&)> body = {};
  bool every_isa = false;  // or the best one only
};
inline std::ostream& operator<<(std::ostream& out, const BeyondCase& one) {
  return out << one.label;
}

std::vector<BeyondCase> row_beyond_cases();      // ops that go element by element or row by row
std::vector<BeyondCase> state_beyond_cases();    // coded state and gradients, the end of a step
std::vector<BeyondCase> token_beyond_cases();    // embeddings, rotations, attention
std::vector<BeyondCase> product_beyond_cases();  // linear maps, packed weights
std::vector<BeyondCase> head_beyond_cases();

// One case for float32 and one for bf16 of body.operator()<T>(beyond); `ops` by name.
template <class Body>
void add_both(std::vector<BeyondCase>* cases, const std::string& label,
              const std::vector<std::string>& ops, Body body, bool every_isa = false) {
  for (const bool half : {false, true}) {
    BeyondCase one{.label = label + (half ? "_bf16" : ""), .every_isa = every_isa};
    for (const std::string& op : ops) one.forms.insert(op + (half ? " bf16" : ""));
    one.body = [=](Beyond& beyond) {
      half ? body.template operator()<bf16>(beyond) : body.template operator()<float>(beyond);
    };
    cases->push_back(std::move(one));
  }
}

template <class T>
void fill(T* data, std::int64_t count, std::int64_t seed) {
  for (std::int64_t i = 0; i < count; ++i)
    data[i] = T(static_cast<float>(((i + seed) * 7919 + seed * 13) % 1009) / 1009.0f - 0.5f);
}

template <class T>
::testing::AssertionResult same(const T* a, const T* b, std::int64_t count) {
  if (std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(T)) == 0)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "other bits";
}

}  // namespace sluice
