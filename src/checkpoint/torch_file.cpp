#include "checkpoint/torch_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "checkpoint/pickle.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/zip_file.h"
#include "core/error.h"

namespace sluice {
namespace {

// The first pickle of the old form: PROTO 2, LONG1 of ten bytes, STOP.
constexpr std::uint8_t legacy_start[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                         0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
constexpr std::int64_t legacy_protocol = 1001;

using Kind = PickleValue::Kind;
using Storages = std::vector<std::span<const std::byte>>;  // as Pickle::storages

Error bad_file(std::string what, std::string where, std::string expected, std::string found) {
  return Error(Exit::input, {fmt::format("this file of PyTorch's cannot be used: {}", what),
                             std::move(where),
                             std::move(expected),
                             std::move(found),
                             {}});
}

std::int64_t bytes_of(const PickleStorage& storage, const std::string& name) {
  std::int64_t out = *safetensors_bits(storage.dtype) / 8;
  require(!__builtin_mul_overflow(out, storage.numbers, &out), [&] {
    return bad_file("a storage is too large", name, "a size below 2^63 bytes",
                    fmt::format("{} numbers", storage.numbers));
  });
  return out;
}

bool is_clean(std::string_view text) {
  return !text.empty() && text.size() <= SafetensorsLimits::name_bytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// Without strides where they are those of row-major order.
bool is_row_major(const StoredTensor& tensor) {
  std::int64_t step = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0; step *= tensor.shape[i])
    if (tensor.shape[i] != 1 && tensor.strides[i] != step) return false;
  return true;
}

StoredTensor tensor_of(const Pickle& pickle, const PickleValue& value, const Storages& storages,
                       std::string_view key, const std::string& name) {
  const PickleStorage& storage = pickle.storages[value.storage];
  StoredTensor out{std::string(key), std::string(storage.dtype), {}, {}, {}, 0};
  const std::size_t rank = value.items.size() / 2;
  for (std::size_t i = 0; i < rank; ++i) {
    out.shape.push_back(pickle.at(value.items[i]).integer);
    out.strides.push_back(pickle.at(value.items[rank + i]).integer);
  }
  // The last number's place bounds all of them; an empty tensor has none.
  std::int64_t last = value.integer, count = 1;
  bool fits = true, empty = false;
  for (std::size_t i = 0; i < rank; ++i) {
    std::int64_t reach = 0;
    empty = empty || out.shape[i] == 0;
    fits = fits && out.shape[i] <= SafetensorsLimits::dimension &&
           !__builtin_mul_overflow(count, std::max<std::int64_t>(1, out.shape[i]), &count) &&
           !__builtin_mul_overflow(std::max<std::int64_t>(1, out.shape[i]) - 1, out.strides[i],
                                   &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  fits = fits && (empty ? value.integer <= storage.numbers : last < storage.numbers);
  require(fits, [&] {
    return bad_file("a tensor lies outside its storage", fmt::format("{} {}", name, key),
                    fmt::format("{} numbers", storage.numbers),
                    fmt::format("[{}] in steps of [{}] from {}", fmt::join(out.shape, ", "),
                                fmt::join(out.strides, ", "), value.integer));
  });
  const auto size = static_cast<std::size_t>(*safetensors_bits(storage.dtype) / 8);
  const auto first = static_cast<std::size_t>(value.integer);
  const auto numbers = empty ? 0 : static_cast<std::size_t>(last) - first + 1;
  out.bytes = storages[value.storage].subspan(first * size, numbers * size);
  // A row-major tensor has no gaps, so that the sizes are held against real bytes: only a stride
  // of 0 could repeat a number for ever, and no state dict has that.
  require(empty || static_cast<std::size_t>(count) <= numbers, [&] {
    return bad_file("a tensor has a number at two places", fmt::format("{} {}", name, key),
                    fmt::format("{} numbers", count), fmt::format("{}", numbers));
  });
  if (is_row_major(out) || empty) out.strides.clear();
  return out;
}

std::vector<StoredTensor> tensors_of(const Pickle& pickle, const Storages& storages,
                                     const std::string& name) {
  const PickleValue& result = pickle.at(pickle.result);
  require(result.kind == Kind::dict, [&] {
    return bad_file("it holds no state dict", name, "a dictionary of tensors",
                    name_of(result.kind));
  });
  std::vector<StoredTensor> out;
  for (std::size_t i = 0; i + 1 < result.items.size(); i += 2) {
    const PickleValue& key = pickle.at(result.items[i]);
    require(key.kind == Kind::text && is_clean(key.text), [&] {
      return bad_file("a tensor has no name", name, "printable text of at most 1024 bytes",
                      key.kind == Kind::text ? "other text" : name_of(key.kind));
    });
    const PickleValue& value = pickle.at(result.items[i + 1]);
    require(value.kind == Kind::tensor, [&] {
      return bad_file("it holds more than tensors", fmt::format("{} {}", name, key.text),
                      "a tensor: the state dict alone, as save_pretrained() writes it",
                      name_of(value.kind));
    });
    out.push_back(tensor_of(pickle, value, storages, key.text, name));
  }
  return out;
}

// --- the zip form ---

const ZipEntry* find_entry(const std::vector<ZipEntry>& entries, std::string_view name) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const ZipEntry& entry) { return entry.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

std::uint32_t crc_of(std::span<const std::byte> bytes, std::uint32_t before = 0) {
  return static_cast<std::uint32_t>(
      crc32_z(before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

std::vector<StoredTensor> read_zip_form(std::span<const std::byte> file, const std::string& name) {
  const std::vector<ZipEntry> entries = read_zip(file, name);
  constexpr std::string_view pickled = "/data.pkl";
  const auto object = std::find_if(entries.begin(), entries.end(), [&](const ZipEntry& entry) {
    return entry.name.ends_with(pickled) &&
           entry.name.find('/') == entry.name.size() - pickled.size();
  });
  require(object != entries.end(), [&] {
    return bad_file("the archive holds no object", name, "an entry …/data.pkl", "none");
  });
  const std::string root(object->name.substr(0, object->name.size() - pickled.size()));
  const ZipEntry* order = find_entry(entries, root + "/byteorder");
  constexpr std::string_view little = "little";
  require(order == nullptr || (order->bytes.size() == little.size() &&
                               std::memcmp(order->bytes.data(), little.data(), little.size()) == 0),
          [&] { return bad_file("its numbers are big-endian", name, "little", "something else"); });
  require(object->bytes.size() <= PickleLimits::bytes && crc_of(object->bytes) == object->crc, [&] {
    return bad_file("its pickle is damaged", name + " data.pkl",
                    fmt::format("CRC-32 {:08x}", object->crc),
                    fmt::format("{:08x}", crc_of(object->bytes)));
  });
  const Pickle pickle = read_pickle(object->bytes, name + " data.pkl");

  std::map<std::string_view, const ZipEntry*> by_name;
  for (const ZipEntry& entry : entries) by_name[entry.name] = &entry;
  Storages storages;
  for (const PickleStorage& storage : pickle.storages) {
    const std::string entry = fmt::format("{}/data/{}", root, storage.key.substr(0, 200));
    const auto found = by_name.find(entry);
    const std::int64_t bytes = bytes_of(storage, name);
    const bool whole =
        found != by_name.end() && found->second->bytes.size() == static_cast<std::size_t>(bytes);
    require(whole, [&] {
      return bad_file("a storage is missing or of another size",
                      name + (is_clean(storage.key) ? fmt::format(" data/{}", storage.key) : ""),
                      fmt::format("{} bytes", bytes),
                      found == by_name.end()
                          ? "no such entry"
                          : fmt::format("{} bytes", found->second->bytes.size()));
    });
    storages.push_back(found->second->bytes);
  }
  return tensors_of(pickle, storages, name);
}

// --- the old form ---

class Legacy {
 public:
  Legacy(std::span<const std::byte> file, const std::string& name) : file_(file), name_(name) {}

  std::vector<StoredTensor> read() {
    at_ = sizeof legacy_start;
    const Pickle protocol = next("protocol");
    const PickleValue& number = protocol.at(protocol.result);
    require(number.kind == Kind::integer && number.integer == legacy_protocol, [&] {
      return bad_file("its protocol is another", name_, fmt::format("{}", legacy_protocol),
                      fmt::format("{}", number.integer));
    });
    require_little(next("system"));
    const Pickle object = next("object");
    const Pickle keys = next("keys");
    return tensors_of(object, storages(object, keys), name_);
  }

 private:
  Pickle next(const char* part) {
    const auto rest = file_.subspan(at_);
    Pickle out = read_pickle(rest.first(std::min(rest.size(), PickleLimits::bytes)),
                             fmt::format("{} ({})", name_, part), at_);
    at_ += out.end;
    return out;
  }

  void require_little(const Pickle& system) const {
    const PickleValue& facts = system.at(system.result);
    for (std::size_t i = 0; facts.kind == Kind::dict && i + 1 < facts.items.size(); i += 2) {
      if (system.at(facts.items[i]).text != "little_endian") continue;
      require(system.at(facts.items[i + 1]).integer != 0,
              [&] { return bad_file("its numbers are big-endian", name_, "little", "big"); });
    }
  }

  // Behind the pickles, in the order of the keys: i64 count of numbers, then the numbers.
  Storages storages(const Pickle& object, const Pickle& keys) {
    std::map<std::string_view, std::size_t> of_key;
    for (std::size_t i = 0; i < object.storages.size(); ++i) of_key[object.storages[i].key] = i;
    const PickleValue& list = keys.at(keys.result);
    require(list.kind == Kind::list && list.items.size() == of_key.size(), [&] {
      return bad_file("its list of storages does not fit its tensors", name_,
                      fmt::format("{} keys", of_key.size()), fmt::format("{}", list.items.size()));
    });
    Storages out(object.storages.size());
    for (const std::uint32_t item : list.items) {
      const PickleValue& key = keys.at(item);
      const auto found = of_key.find(key.kind == Kind::text ? key.text : std::string_view());
      require(found != of_key.end(), [&] {
        return bad_file("its list of storages does not fit its tensors", name_,
                        "the key of a tensor's storage, once", name_of(key.kind));
      });
      out[found->second] = take(object.storages[found->second]);
      of_key.erase(found);
    }
    return out;
  }

  std::span<const std::byte> take(const PickleStorage& storage) {
    const auto bytes = static_cast<std::uint64_t>(bytes_of(storage, name_));
    std::int64_t numbers = -1;
    if (file_.size() - at_ >= sizeof numbers)
      std::memcpy(&numbers, file_.data() + at_, sizeof numbers);
    require(numbers == storage.numbers && file_.size() - at_ - sizeof numbers >= bytes, [&] {
      return bad_file("a storage is missing or of another size",
                      fmt::format("{} byte {}", name_, at_),
                      fmt::format("{} numbers, {} bytes", storage.numbers, bytes),
                      fmt::format("{} numbers, {} bytes of file", numbers, file_.size() - at_));
    });
    at_ += sizeof numbers + bytes;
    return file_.subspan(at_ - bytes, bytes);
  }

  std::span<const std::byte> file_;
  const std::string& name_;
  std::size_t at_ = 0;
};

}  // namespace

bool is_torch_file(std::span<const std::byte> file) {
  return is_zip(file) || (file.size() >= sizeof legacy_start &&
                          std::memcmp(file.data(), legacy_start, sizeof legacy_start) == 0);
}

std::vector<StoredTensor> read_torch_file(std::span<const std::byte> file,
                                          const std::string& name) {
  return is_zip(file) ? read_zip_form(file, name) : Legacy(file, name).read();
}

bool verify_torch_file(std::span<const std::byte> file, const std::string& name,
                       FunctionRef<void(std::span<const std::byte>)> after) {
  if (!is_zip(file)) return false;
  constexpr std::size_t most = std::size_t{64} << 20;
  for (const ZipEntry& entry : read_zip(file, name)) {
    std::uint32_t crc = 0;
    for (std::size_t at = 0; at < entry.bytes.size(); at += most) {
      const auto piece = entry.bytes.subspan(at, std::min(most, entry.bytes.size() - at));
      crc = crc_of(piece, crc);
      after(piece);
    }
    require(crc == entry.crc, [&] {
      return bad_file("an entry is damaged",
                      name + (is_clean(entry.name) ? fmt::format(" {}", entry.name) : ""),
                      fmt::format("CRC-32 {:08x}", entry.crc), fmt::format("{:08x}", crc));
    });
  }
  return true;
}

}  // namespace sluice
