#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

namespace sluice {

namespace {

struct Type {
  std::string_view name;
  int bits;
};

// The format's own order; a writer puts the last first.
constexpr Type types[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

// Follows the JSON event by event, so that nothing is built for input that will be refused and
// duplicate keys, which a DOM would drop silently, are seen. The shape of an accepted header is
// fixed: { name: { "dtype": string, "shape": [n…], "data_offsets": [n, n] }…,
// "__metadata__": { string: string… } }.
class Handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Handler(const std::string& file) : file_(file) {}
  SafetensorsHeader take() { return std::move(out_); }

  bool null() override { fail("null stands where it must not", "a header of the format"); }
  bool boolean(bool) override { fail("a boolean stands where it must not", "a header"); }
  bool number_integer(std::int64_t value) override {
    fail("a number is negative", "an unsigned integer", fmt::format("{}", value));
  }
  bool number_float(double, const std::string& text) override {
    fail("a number is no integer of 64 bits", "an unsigned integer", text.substr(0, 40));
  }
  bool binary(binary_t&) override { fail("binary data", "JSON"); }

  bool number_unsigned(std::uint64_t value) override {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    if (place_ != Place::shape && place_ != Place::offsets) {
      fail("a number stands where it must not", "a header of the format");
    }
    if (value > most)
      fail("a number is too large", fmt::format("at most {}", most), fmt::format("{}", value));
    const auto number = static_cast<std::int64_t>(value);
    if (place_ == Place::shape) {
      if (info_.shape.size() == SafetensorsLimits::rank) {
        fail("a tensor has too many dimensions",
             fmt::format("at most {}", SafetensorsLimits::rank));
      }
      info_.shape.push_back(number);
    } else {
      if (offsets_seen_ == 2) fail("data_offsets has more than two numbers", "[begin, end]");
      offsets_[offsets_seen_++] = number;
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      out_.metadata[key_] = value;
      return true;
    }
    if (place_ != Place::tensor || key_ != "dtype") {
      fail("a string stands where it must not", "a header of the format");
    }
    info_.dtype = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = key_ == "__metadata__" ? Place::metadata : Place::tensor;
    } else {
      fail("an object stands where it must not", "a header of the format");
    }
    return true;
  }

  bool key(std::string& value) override {
    if (value.size() > SafetensorsLimits::name_bytes) {
      fail("a name is too long", fmt::format("at most {} bytes", SafetensorsLimits::name_bytes),
           fmt::format("{} bytes", value.size()));
    }
    if (value.find('\0') != std::string::npos) fail("a name holds a zero byte", "text");
    if (place_ == Place::top) {
      start_entry(value);
    } else if (place_ == Place::metadata) {
      if (out_.metadata.contains(value)) fail("a key of __metadata__ occurs twice", "once", value);
    } else {
      const int field = value == "dtype"          ? 1
                        : value == "shape"        ? 2
                        : value == "data_offsets" ? 4
                                                  : 0;
      if (field == 0) fail("a field is unknown", "dtype, shape, data_offsets", value);
      if ((fields_seen_ & field) != 0) fail("a field occurs twice", "once", value);
      fields_seen_ |= field;
    }
    key_ = value;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::top ? Place::outside : Place::top;
    info_.name.clear();
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::tensor && key_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      fail("an array stands where it must not", "a header of the format");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("its header is not JSON", "UTF-8 JSON", fmt::format("an error at byte {}", position));
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets };

  [[noreturn]] void fail(std::string_view what, std::string expected,
                         std::string found = {}) const {
    throw safetensors_error(file_, info_.name, what, std::move(expected), std::move(found));
  }

  void start_entry(const std::string& name) {
    if (name == "__metadata__") {
      if (metadata_seen_) fail("__metadata__ occurs twice", "once");
      metadata_seen_ = true;
      return;
    }
    if (out_.tensors.size() == SafetensorsLimits::tensors) {
      fail("it has too many tensors", fmt::format("at most {}", SafetensorsLimits::tensors));
    }
    info_ = TensorInfo{.name = name, .dtype = {}, .shape = {}, .offset = 0, .bytes = 0};
    fields_seen_ = 0;
    offsets_seen_ = 0;
  }

  void finish_tensor() {
    if (fields_seen_ != 7) fail("a field is missing", "dtype, shape and data_offsets");
    if (offsets_seen_ != 2) fail("data_offsets has fewer than two numbers", "[begin, end]");
    if (offsets_[0] > offsets_[1]) {
      fail("a tensor ends before it begins", "begin <= end",
           fmt::format("[{}, {}]", offsets_[0], offsets_[1]));
    }
    info_.offset = offsets_[0];
    info_.bytes = offsets_[1] - offsets_[0];
    const std::int64_t bytes = safetensors_bytes(info_, file_);
    if (bytes != info_.bytes) {
      fail("a tensor's size does not match its shape", fmt::format("{} bytes", bytes),
           fmt::format("{} bytes", info_.bytes));
    }
    out_.tensors.push_back(std::move(info_));
    info_ = {};
  }

  const std::string& file_;
  SafetensorsHeader out_;
  Place place_ = Place::outside;
  std::string key_;
  TensorInfo info_;
  std::int64_t offsets_[2] = {0, 0};
  int offsets_seen_ = 0;
  int fields_seen_ = 0;  // bits: dtype 1, shape 2, data_offsets 4
  bool metadata_seen_ = false;
};

void refuse_equal_names(const std::vector<TensorInfo>& tensors, const std::string& file) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& info : tensors) names.push_back(info.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  require(twice == names.end(), [&] {
    return safetensors_error(file, *twice, "a tensor's name occurs twice", "once", "");
  });
}

}  // namespace

Error safetensors_error(const std::string& file, std::string_view tensor, std::string_view what,
                        std::string expected, std::string found) {
  std::string where = file;
  if (!tensor.empty()) where += fmt::format(", tensor {}", tensor);
  return Error(Exit::input, {fmt::format("not a usable safetensors file: {}", what),
                             std::move(where),
                             std::move(expected),
                             std::move(found),
                             {}});
}

int safetensors_rank(std::string_view dtype) {
  for (std::size_t i = 0; i < std::size(types); ++i) {
    if (types[i].name == dtype) return static_cast<int>(i);
  }
  return -1;
}

std::optional<std::int64_t> safetensors_bits(std::string_view dtype) {
  const int rank = safetensors_rank(dtype);
  if (rank < 0) return std::nullopt;
  return types[rank].bits;
}

std::int64_t safetensors_bytes(const TensorInfo& info, const std::string& file) {
  const auto fail = [&](std::string_view what, std::string expected, std::string found) {
    return safetensors_error(file, info.name, what, std::move(expected), std::move(found));
  };
  const std::optional<std::int64_t> bits = safetensors_bits(info.dtype);
  require(bits.has_value(), [&] {
    return fail("a tensor's type is unknown", "a type of the format, say F32",
                info.dtype.substr(0, 40));
  });
  require(info.shape.size() <= SafetensorsLimits::rank, [&] {
    return fail("a tensor has too many dimensions",
                fmt::format("at most {}", SafetensorsLimits::rank),
                fmt::format("{}", info.shape.size()));
  });
  std::int64_t total = *bits;
  for (const std::int64_t size : info.shape) {
    require(size >= 0 && size <= SafetensorsLimits::dimension, [&] {
      return fail("a dimension is out of range",
                  fmt::format("0 to {}", SafetensorsLimits::dimension), fmt::format("{}", size));
    });
    require(!__builtin_mul_overflow(total, size, &total), [&] {
      return fail("a tensor is too large", "a size in bits below 2^63",
                  fmt::format("[{}]", fmt::join(info.shape, ", ")));
    });
  }
  require(total % 8 == 0, [&] {
    return fail("a tensor is no whole number of bytes", "a multiple of 8 bits",
                fmt::format("{} bits", total));
  });
  return total / 8;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& file) {
  // The format pads with spaces alone; and the JSON lexer would take a zero byte for the end.
  require(json.starts_with('{'), [&] {
    return safetensors_error(file, "", "its header is not JSON", "a header that begins with {", "");
  });
  require(json.find('\0') == std::string_view::npos, [&] {
    return safetensors_error(file, "", "its header is not JSON", "text", "a zero byte");
  });
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  require(json.ends_with('}'), [&] {
    return safetensors_error(file, "", "its header is not JSON",
                             "a header that ends with } and spaces", "");
  });
  Handler handler(file);
  // The parser keeps one bit per level and does not recurse; the handler refuses a fourth level.
  nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
  SafetensorsHeader out = handler.take();
  refuse_equal_names(out.tensors, file);
  std::stable_sort(out.tensors.begin(), out.tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
                   });
  return out;
}

void check_safetensors_layout(const std::vector<TensorInfo>& tensors, std::uint64_t data_bytes,
                              const std::string& file) {
  std::int64_t end = 0;
  for (const TensorInfo& info : tensors) {
    require(info.offset == end, [&] {
      return safetensors_error(
          file, info.name,
          info.offset > end ? "there is a hole before a tensor" : "tensors overlap",
          fmt::format("a tensor that begins at {}", end), fmt::format("{}", info.offset));
    });
    end += info.bytes;  // no overflow: offset + bytes was read as one 63-bit number
  }
  require(static_cast<std::uint64_t>(end) == data_bytes, [&] {
    return safetensors_error(file, "", "its data has another size than its header says",
                             fmt::format("{} bytes", end), fmt::format("{} bytes", data_bytes));
  });
}

}  // namespace sluice
