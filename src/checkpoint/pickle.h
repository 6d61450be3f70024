// A pickle read as a description of tensors: the few opcodes that torch.save writes for a state
// dict, and nothing that could call anything. A global is one of a closed list of words; no name is
// ever looked up.
//
// Values are nodes of a pool and refer to each other by number: nothing recurses on the input, and
// what is allocated is bounded by the limits below. Pure function; text points into the input.
// Errors: Exit::input, with the byte of the opcode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice {

struct PickleLimits {
  static constexpr std::size_t bytes = 100'000'000;
  static constexpr std::size_t nodes = 1'000'000, stack = 1'000'000, memo = 1'000'000;
  static constexpr std::size_t rank = 8;
};

// What a pickle may name.
enum class PickleGlobal : std::uint8_t {
  ordered_dict,
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_parameter,
  size,     // torch.Size, a tuple
  storage,  // torch.FloatStorage and its kin: PickleValue::dtype says which
};

struct PickleValue {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    number,
    text,
    tuple,
    list,
    dict,
    global,
    storage,
    tensor,
  };
  Kind kind = Kind::none;
  PickleGlobal global = PickleGlobal::ordered_dict;
  bool big = false;                  // an integer of more than 64 bits: `text` has its bytes
  std::int64_t integer = 0;          // boolean, integer; of a tensor: its offset in its storage
  std::uint32_t storage = 0;         // of a tensor, or a storage: place in Pickle::storages
  std::string_view text;             // text; of a storage's global: safetensors' word
  std::vector<std::uint32_t> items;  // tuple, list: values; dict: key, value, key, value …
                                     // tensor: its sizes and its strides, as nodes
};

// What a persistent id describes.
struct PickleStorage {
  std::string_view dtype;  // "F32"
  std::string_view key;
  std::int64_t numbers = 0;
};

struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickleStorage> storages;  // one per key, in the order of their first mention
  std::uint32_t result = 0;             // in values
  std::size_t end = 0;                  // the byte after STOP

  const PickleValue& at(std::uint32_t value) const { return values[value]; }
};

// `where` is what errors call the input ("pytorch_model.bin data.pkl"), `offset` what they add to a
// byte.
Pickle read_pickle(std::span<const std::byte> input, const std::string& where,
                   std::size_t offset = 0);

// "a dictionary", for messages.
const char* name_of(PickleValue::Kind kind);

}  // namespace sluice
