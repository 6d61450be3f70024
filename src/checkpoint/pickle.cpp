#include "checkpoint/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>

#include "core/error.h"

namespace sluice {
namespace {

using Kind = PickleValue::Kind;
using Node = std::uint32_t;

// The opcodes that are taken, by their names in Python's pickletools.
enum Op : std::uint8_t {
  MARK = '(',
  STOP = '.',
  BINFLOAT = 'G',
  BININT = 'J',
  BININT1 = 'K',
  BININT2 = 'M',
  NONE = 'N',
  BINPERSID = 'Q',
  REDUCE = 'R',
  SHORT_BINSTRING = 'U',
  BINUNICODE = 'X',
  APPEND = 'a',
  BUILD = 'b',
  GLOBAL = 'c',
  APPENDS = 'e',
  BINGET = 'h',
  LONG_BINGET = 'j',
  BINPUT = 'q',
  LONG_BINPUT = 'r',
  SETITEM = 's',
  TUPLE = 't',
  SETITEMS = 'u',
  EMPTY_TUPLE = ')',
  EMPTY_LIST = ']',
  EMPTY_DICT = '}',
  PROTO = 0x80,
  TUPLE1 = 0x85,
  TUPLE2 = 0x86,
  TUPLE3 = 0x87,
  NEWTRUE = 0x88,
  NEWFALSE = 0x89,
  LONG1 = 0x8a,
};

// Those that are not, for a message.
struct Refused {
  std::uint8_t code;
  const char* name;
};
constexpr Refused refused[] = {
    {'0', "POP"},          {'1', "POP_MARK"},    {'2', "DUP"},           {'F', "FLOAT"},
    {'I', "INT"},          {'L', "LONG"},        {'P', "PERSID"},        {'S', "STRING"},
    {'T', "BINSTRING"},    {'V', "UNICODE"},     {'B', "BINBYTES"},      {'C', "SHORT_BINBYTES"},
    {'d', "DICT"},         {'g', "GET"},         {'i', "INST"},          {'l', "LIST"},
    {'o', "OBJ"},          {'p', "PUT"},         {0x81, "NEWOBJ"},       {0x82, "EXT1"},
    {0x83, "EXT2"},        {0x84, "EXT4"},       {0x8b, "LONG4"},        {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"}, {0x8e, "BINBYTES8"},  {0x8f, "EMPTY_SET"},    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},   {0x92, "NEWOBJ_EX"},  {0x93, "STACK_GLOBAL"}, {0x94, "MEMOIZE"},
    {0x95, "FRAME"},       {0x96, "BYTEARRAY8"}, {0x97, "NEXT_BUFFER"},  {0x98, "READONLY_BUFFER"},
};

struct Known {
  std::string_view name;
  PickleGlobal global;
  std::string_view dtype = {};
};
constexpr Known globals[] = {
    {"collections.OrderedDict", PickleGlobal::ordered_dict},
    {"torch._utils._rebuild_tensor", PickleGlobal::rebuild_tensor},
    {"torch._utils._rebuild_tensor_v2", PickleGlobal::rebuild_tensor_v2},
    {"torch._utils._rebuild_parameter", PickleGlobal::rebuild_parameter},
    {"torch.Size", PickleGlobal::size},
    {"torch.FloatStorage", PickleGlobal::storage, "F32"},
    {"torch.HalfStorage", PickleGlobal::storage, "F16"},
    {"torch.BFloat16Storage", PickleGlobal::storage, "BF16"},
    {"torch.DoubleStorage", PickleGlobal::storage, "F64"},
    {"torch.LongStorage", PickleGlobal::storage, "I64"},
    {"torch.IntStorage", PickleGlobal::storage, "I32"},
    {"torch.ShortStorage", PickleGlobal::storage, "I16"},
    {"torch.CharStorage", PickleGlobal::storage, "I8"},
    {"torch.ByteStorage", PickleGlobal::storage, "U8"},
    {"torch.BoolStorage", PickleGlobal::storage, "BOOL"},
};

constexpr const char* conversion =
    "take safetensors, or convert the file where you trust it: save_pretrained() of Transformers";

std::string printable(std::string_view text) {
  std::string out(text.substr(0, 80));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

std::string opcode_name(std::uint8_t code) {
  for (const Refused& one : refused)
    if (one.code == code) return fmt::format("{} (0x{:02x})", one.name, code);
  return fmt::format("0x{:02x}", code);
}

class Machine {
 public:
  Machine(std::span<const std::byte> input, const std::string& where, std::size_t offset)
      : input_(input), where_(where), offset_(offset) {
    // The first nodes are values that are all alike.
    for (const Kind kind : {Kind::none, Kind::boolean, Kind::boolean, Kind::tuple}) push_new(kind);
    out_.values[true_node].integer = 1;
    stack_.clear();
  }

  Pickle run() {
    for (;;) {
      op_at_ = at_;
      const auto code = static_cast<std::uint8_t>(take(1)[0]);
      if (code == STOP) break;
      if (!constants(code) && !containers(code) && !memo(code) && !objects(code))
        fail("it asks for something that is not allowed", "the opcodes of tensors in dictionaries",
             "opcode " + opcode_name(code));
    }
    if (!marks_.empty() || stack_.size() != 1)
      fail("it does not end with one value", "one",
           fmt::format("{}", marks_.empty() ? stack_.size() : marks_.size() + 1));
    out_.result = stack_.back();
    out_.end = at_;
    return std::move(out_);
  }

 private:
  static constexpr Node none_node = 0, true_node = 1, false_node = 2, empty_tuple = 3;

  [[noreturn]] void fail(std::string what, std::string expected, std::string found = {}) const {
    throw Error(Exit::input, {fmt::format("the pickle cannot be read: {}", what),
                              fmt::format("{} byte {}", where_, offset_ + op_at_),
                              std::move(expected),
                              std::move(found),
                              {conversion}});
  }

  // --- input ---

  std::span<const std::byte> take(std::size_t bytes) {
    if (bytes > input_.size() - at_)
      fail("it ends early", fmt::format("{} more bytes", bytes),
           fmt::format("{}", input_.size() - at_));
    at_ += bytes;
    return input_.subspan(at_ - bytes, bytes);
  }
  template <class T>
  T number() {
    T out;
    std::memcpy(&out, take(sizeof(T)).data(), sizeof(T));
    return out;
  }
  std::string_view text(std::size_t bytes) {
    const std::span<const std::byte> taken = take(bytes);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  std::string_view line() {
    const auto begin = input_.begin() + static_cast<std::ptrdiff_t>(at_);
    const auto end = std::find(begin, input_.end(), std::byte{'\n'});
    const std::string_view out = text(static_cast<std::size_t>(end - begin));
    take(1);
    return out;
  }

  // --- stack ---

  void push(Node node) {
    if (stack_.size() == PickleLimits::stack) fail("its stack is too deep", "at most a million");
    stack_.push_back(node);
  }
  PickleValue& push_new(Kind kind) {
    if (out_.values.size() == PickleLimits::nodes) fail("it has too many values", "a million");
    out_.values.emplace_back().kind = kind;
    push(static_cast<Node>(out_.values.size() - 1));
    return out_.values.back();
  }
  std::size_t base() const { return marks_.empty() ? 0 : marks_.back(); }
  Node pop() {
    if (stack_.size() == base()) fail("its stack is empty", "a value");
    const Node out = stack_.back();
    stack_.pop_back();
    return out;
  }
  // What lies above the last mark, which goes.
  std::vector<Node> pop_mark() {
    if (marks_.empty()) fail("there is no mark", "MARK before");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Node> out(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return out;
  }
  PickleValue& value(Node node) { return out_.values[node]; }
  PickleValue& of_kind(Node node, Kind kind) {
    PickleValue& out = value(node);
    if (out.kind != kind)
      fail("a value has another kind than its use", name_of(kind), name_of(out.kind));
    return out;
  }
  PickleValue& top(Kind kind) {
    if (stack_.size() == base()) fail("its stack is empty", "a value");
    return of_kind(stack_.back(), kind);
  }

  // --- opcodes; each of the four says whether the code is one of its own ---

  bool constants(std::uint8_t code) {
    switch (code) {
      case PROTO:
        if (const auto found = number<std::uint8_t>(); found != 2)
          fail("its protocol is another", "2", fmt::format("{}", found));
        return true;
      case NONE:
        return push(none_node), true;
      case NEWTRUE:
        return push(true_node), true;
      case NEWFALSE:
        return push(false_node), true;
      case BININT:
        return integer(number<std::int32_t>()), true;
      case BININT1:
        return integer(number<std::uint8_t>()), true;
      case BININT2:
        return integer(number<std::uint16_t>()), true;
      case LONG1:
        return long_integer(text(number<std::uint8_t>())), true;
      case BINFLOAT:
        take(8);
        return push_new(Kind::number), true;
      case BINUNICODE: {
        const std::string_view read = text(number<std::uint32_t>());
        return push_new(Kind::text).text = read, true;
      }
      case SHORT_BINSTRING: {
        const std::string_view read = text(number<std::uint8_t>());
        return push_new(Kind::text).text = read, true;
      }
    }
    return false;
  }

  void integer(std::int64_t number) { push_new(Kind::integer).integer = number; }

  void long_integer(std::string_view bytes) {  // little-endian, two's complement
    PickleValue& out = push_new(Kind::integer);
    out.text = bytes;
    out.big = bytes.size() > 8;
    if (out.big || bytes.empty()) return;
    std::uint64_t number = bytes.back() < 0 ? ~std::uint64_t{0} : 0;
    std::memcpy(&number, bytes.data(), bytes.size());
    out.integer = std::bit_cast<std::int64_t>(number);
  }

  bool containers(std::uint8_t code) {
    switch (code) {
      case MARK:
        if (marks_.size() == PickleLimits::stack) fail("it has too many marks", "a million");
        return marks_.push_back(stack_.size()), true;
      case EMPTY_TUPLE:
        return push(empty_tuple), true;
      case EMPTY_LIST:
        return push_new(Kind::list), true;
      case EMPTY_DICT:
        return push_new(Kind::dict), true;
      case TUPLE1:
      case TUPLE2:
      case TUPLE3: {
        std::vector<Node> items(code - TUPLE1 + 1u);
        for (std::size_t i = items.size(); i-- > 0;) items[i] = pop();
        return push_new(Kind::tuple).items = std::move(items), true;
      }
      case TUPLE: {
        std::vector<Node> items = pop_mark();
        return push_new(Kind::tuple).items = std::move(items), true;
      }
      case APPEND: {
        const Node item = pop();
        return add(top(Kind::list), {item}), true;
      }
      case APPENDS: {
        const std::vector<Node> items = pop_mark();
        return add(top(Kind::list), items), true;
      }
      case SETITEM: {
        const Node item = pop(), key = pop();
        return add(top(Kind::dict), {key, item}), true;
      }
      case SETITEMS: {
        const std::vector<Node> items = pop_mark();
        if (items.size() % 2 != 0) fail("a key has no value", "keys and values");
        return add(top(Kind::dict), items), true;
      }
    }
    return false;
  }

  void add(PickleValue& to, const std::vector<Node>& items) {
    references_ += items.size();
    if (references_ > PickleLimits::nodes) fail("its values have too many parts", "a million");
    to.items.insert(to.items.end(), items.begin(), items.end());
  }

  bool memo(std::uint8_t code) {
    switch (code) {
      case BINPUT:
        return put(number<std::uint8_t>()), true;
      case LONG_BINPUT:
        return put(number<std::uint32_t>()), true;
      case BINGET:
        return get(number<std::uint8_t>()), true;
      case LONG_BINGET:
        return get(number<std::uint32_t>()), true;
    }
    return false;
  }

  void put(std::size_t place) {
    if (place >= PickleLimits::memo) fail("it remembers too much", "at most a million values");
    if (stack_.size() == base()) fail("its stack is empty", "a value");
    if (memo_.size() <= place) memo_.resize(place + 1, nowhere);
    memo_[place] = stack_.back();
  }
  void get(std::size_t place) {
    if (place >= memo_.size() || memo_[place] == nowhere)
      fail("it asks for what it did not remember", "a value", fmt::format("number {}", place));
    push(memo_[place]);
  }

  bool objects(std::uint8_t code) {
    switch (code) {
      case GLOBAL:
        return global(), true;
      case BINPERSID:
        return persistent(pop()), true;
      case REDUCE: {
        const Node arguments = pop(), callee = pop();
        return reduce(of_kind(callee, Kind::global).global, arguments), true;
      }
      case BUILD:  // of a state dict: what modules it came from
        of_kind(pop(), Kind::dict);
        return top(Kind::dict), true;
    }
    return false;
  }

  void global() {
    const std::string_view module = line(), name = line();
    const std::string whole = fmt::format("{}.{}", module.substr(0, 200), name.substr(0, 200));
    for (const Known& known : globals) {
      if (known.name != whole) continue;
      PickleValue& out = push_new(Kind::global);
      out.global = known.global;
      out.text = known.dtype;
      return;
    }
    fail("it asks for something that is not allowed",
         "tensors and dictionaries: torch's tensors and storages, collections.OrderedDict",
         "global " + printable(whole));
  }

  // ('storage', torch.FloatStorage, key, device, numbers), in old files with a view that is None.
  void persistent(Node id) {
    const std::vector<Node> parts = of_kind(id, Kind::tuple).items;
    const bool sized = parts.size() == 5 || parts.size() == 6;
    if (!sized || of_kind(parts[0], Kind::text).text != "storage")
      fail("it refers to something that is no storage", "('storage', type, key, device, numbers)",
           fmt::format("{} parts", parts.size()));
    const PickleValue& type = of_kind(parts[1], Kind::global);
    if (type.global != PickleGlobal::storage) fail("a storage has no type", "torch.FloatStorage");
    if (parts.size() == 6 && parts[5] != none_node)
      fail("a storage is a view of another one", "a storage of its own", "a view");
    const std::string_view key = of_kind(parts[2], Kind::text).text;
    const PickleValue& numbers = of_kind(parts[4], Kind::integer);
    if (numbers.big || numbers.integer < 0)
      fail("a storage has no size", "0 or more numbers", fmt::format("{}", numbers.integer));
    const PickleStorage storage{type.text, key, numbers.integer};
    const auto [known, is_new] = keys_.try_emplace(key, out_.storages.size());
    if (is_new) out_.storages.push_back(storage);
    const PickleStorage& first = out_.storages[known->second];
    if (first.dtype != storage.dtype || first.numbers != storage.numbers)
      fail("a storage is described in two ways", fmt::format("{} {}", first.numbers, first.dtype),
           fmt::format("{} {}", storage.numbers, storage.dtype));
    push_new(Kind::storage).storage = static_cast<std::uint32_t>(known->second);
  }

  void reduce(PickleGlobal callee, Node arguments) {
    const std::vector<Node> parts = of_kind(arguments, Kind::tuple).items;
    const auto require_parts = [&](std::size_t least, std::size_t most) {
      if (parts.size() < least || parts.size() > most)
        fail("a call has another number of arguments", fmt::format("{} to {}", least, most),
             fmt::format("{}", parts.size()));
    };
    switch (callee) {
      case PickleGlobal::ordered_dict:
        require_parts(0, 0);
        push_new(Kind::dict);
        return;
      case PickleGlobal::size:
        require_parts(1, 1);
        of_kind(parts[0], Kind::tuple);
        return push(parts[0]);
      case PickleGlobal::rebuild_parameter:
        require_parts(2, 4);
        of_kind(parts[0], Kind::tensor);
        return push(parts[0]);
      case PickleGlobal::rebuild_tensor:
        require_parts(4, 4);
        return tensor(parts);
      case PickleGlobal::rebuild_tensor_v2:
        require_parts(6, 7);
        return tensor(parts);
      case PickleGlobal::storage:
        break;
    }
    fail("it calls what cannot be called", "a tensor or a dictionary", "a storage's type");
  }

  // (storage, offset, sizes, strides, …)
  void tensor(const std::vector<Node>& parts) {
    const std::uint32_t storage = of_kind(parts[0], Kind::storage).storage;
    const PickleValue& offset = of_kind(parts[1], Kind::integer);
    const std::vector<Node> sizes = of_kind(parts[2], Kind::tuple).items;
    const std::vector<Node> strides = of_kind(parts[3], Kind::tuple).items;
    if (sizes.size() != strides.size() || sizes.size() > PickleLimits::rank)
      fail("a tensor has no shape", fmt::format("at most {} sizes and strides", PickleLimits::rank),
           fmt::format("{} and {}", sizes.size(), strides.size()));
    bool good = !offset.big && offset.integer >= 0;
    std::vector<Node> items = sizes;
    items.insert(items.end(), strides.begin(), strides.end());
    for (const Node item : items) {
      const PickleValue& size = of_kind(item, Kind::integer);
      good = good && !size.big && size.integer >= 0;
    }
    if (!good)
      fail("a tensor lies outside its storage", "sizes, strides and an offset of 0 or more");
    const std::int64_t first = offset.integer;
    PickleValue& out = push_new(Kind::tensor);
    out.storage = storage;
    out.integer = first;
    out.items = std::move(items);
  }

  static constexpr Node nowhere = ~Node{0};

  std::span<const std::byte> input_;
  const std::string& where_;
  std::size_t offset_;
  std::size_t at_ = 0, op_at_ = 0;
  Pickle out_;
  std::vector<Node> stack_, memo_;
  std::vector<std::size_t> marks_;
  std::size_t references_ = 0;
  std::map<std::string_view, std::size_t> keys_;
};

}  // namespace

Pickle read_pickle(std::span<const std::byte> input, const std::string& where, std::size_t offset) {
  return Machine(input, where, offset).run();
}

const char* name_of(PickleValue::Kind kind) {
  switch (kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::number:
      return "a number";
    case Kind::text:
      return "text";
    case Kind::tuple:
      return "a tuple";
    case Kind::list:
      return "a list";
    case Kind::dict:
      return "a dictionary";
    case Kind::global:
      return "a global";
    case Kind::storage:
      return "a storage";
    case Kind::tensor:
      return "a tensor";
  }
  return "a value";
}

}  // namespace sluice
