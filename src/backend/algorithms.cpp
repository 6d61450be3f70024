#include "backend/algorithms.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/hash.h"

namespace sluice {
namespace {

constexpr std::int64_t version = 1;
constexpr std::size_t most_bytes = 16 << 20, most_products = 10000, most_text = 200;
constexpr std::int64_t most_size = std::int64_t{1} << 40;
constexpr std::string_view epilogues[] = {"none", "bias", "gelu", "gelu slope"};
constexpr DType types[] = {DType::f32, DType::bf16};

// One object of the file; every refusal says where.
class Reader {
 public:
  Reader(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    require(object.is_object(), [&] { return wrong("an object", "something else"); });
  }

  Error wrong(const std::string& expected, const std::string& found) const {
    return Error(Exit::input, {"the table of algorithms is damaged",
                               where_,
                               expected,
                               found,
                               {"without the file products are tuned anew"}});
  }
  const nlohmann::json& at(const char* key) const {
    const auto found = object_.find(key);
    require(found != object_.end(), [&] { return wrong(key, "nothing"); });
    return *found;
  }
  std::string text(const char* key) const {
    const nlohmann::json& value = at(key);
    const auto readable = [](const std::string& text) {  // it is printed to terminals
      return text.size() <= most_text && std::all_of(text.begin(), text.end(), [](char c) {
               return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
             });
    };
    require(value.is_string() && readable(value.get_ref<const std::string&>()),
            [&] { return wrong(fmt::format("{}: a short line of text", key), "something else"); });
    return value;
  }
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const {
    const nlohmann::json& value = at(key);
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX) &&
                      value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= most;
    require(fits, [&] {
      return wrong(fmt::format("{}: an integer from {} to {}", key, least, most), "something else");
    });
    return value;
  }
  bool flag(const char* key) const {
    const nlohmann::json& value = at(key);
    require(value.is_boolean(),
            [&] { return wrong(fmt::format("{}: true or false", key), "something else"); });
    return value;
  }
  double seconds(const char* key) const {
    const nlohmann::json& value = at(key);
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    require(std::isfinite(number) && number >= 0 && number <= 1e6,
            [&] { return wrong(fmt::format("{}: seconds", key), "something else"); });
    return number;
  }
  int alignment(const char* key) const {
    const std::int64_t value = integer(key, 1, 256);
    require((value & (value - 1)) == 0, [&] {
      return wrong(fmt::format("{}: a power of two", key), fmt::format("{}", value));
    });
    return static_cast<int>(value);
  }
  DType type(const char* key) const {
    const std::string name = text(key);
    for (const DType one : types)
      if (name_of(one) == name) return one;
    throw wrong(fmt::format("{}: f32 or bf16", key), name);
  }
  Epilogue epilogue(const char* key) const {
    const std::string name = text(key);
    const auto found = std::find(std::begin(epilogues), std::end(epilogues), name);
    require(found != std::end(epilogues), [&] {
      return wrong(fmt::format("{}: one of {}", key, fmt::join(epilogues, ", ")), name);
    });
    return static_cast<Epilogue>(found - std::begin(epilogues));
  }
  // 128 hexadecimal digits.
  Algorithm algorithm(const char* key) const {
    const std::string digits = text(key);
    Algorithm out;
    bool good = digits.size() == out.words.size() * 16;
    for (std::size_t i = 0; good && i < digits.size(); ++i) {
      const char c = digits[i];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      good = digit >= 0;
      std::uint64_t& word = out.words[i / 16];
      word = word << 4 | static_cast<std::uint64_t>(digit & 15);
    }
    require(good, [&] {
      return wrong(fmt::format("{}: 128 hexadecimal digits", key), "something else");
    });
    return out;
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

std::string digits_of(const Algorithm& algorithm) {
  std::string out;
  for (const std::uint64_t word : algorithm.words) out += hex64(word);
  return out;
}

nlohmann::json json_of(const ProductShape& s) {
  return {{"m", s.m},
          {"n", s.n},
          {"k", s.k},
          {"lda", s.lda},
          {"ldb", s.ldb},
          {"ldc", s.ldc},
          {"a_align", s.a_align},
          {"b_align", s.b_align},
          {"c_align", s.c_align},
          {"type", name_of(s.type)},
          {"c_type", name_of(s.c_type)},
          {"a_transposed", s.a_transposed},
          {"b_transposed", s.b_transposed},
          {"adds", s.adds},
          {"epilogue", epilogues[static_cast<std::size_t>(s.epilogue)]}};
}

ProductShape shape_of(const Reader& r) {
  ProductShape s;
  s.m = r.integer("m", 1, most_size), s.n = r.integer("n", 1, most_size);
  s.k = r.integer("k", 1, most_size), s.lda = r.integer("lda", 1, most_size);
  s.ldb = r.integer("ldb", 1, most_size), s.ldc = r.integer("ldc", 1, most_size);
  s.a_align = r.alignment("a_align"), s.b_align = r.alignment("b_align");
  s.c_align = r.alignment("c_align");
  s.type = r.type("type"), s.c_type = r.type("c_type");
  s.a_transposed = r.flag("a_transposed"), s.b_transposed = r.flag("b_transposed");
  s.adds = r.flag("adds"), s.epilogue = r.epilogue("epilogue");
  return s;
}

double median(std::vector<double>& of) {
  std::sort(of.begin(), of.end());
  return of[of.size() / 2];
}

// The medians of interleaved runs of `who`.
std::vector<double> round_of(ProductTrials& trials, const std::vector<int>& who) {
  constexpr int passes = 5;
  std::vector<std::vector<double>> all(who.size());
  for (int pass = 0; pass < passes; ++pass)
    for (std::size_t i = 0; i < who.size(); ++i) all[i].push_back(trials.seconds(who[i]));
  std::vector<double> out;
  for (std::vector<double>& one : all) out.push_back(median(one));
  return out;
}

}  // namespace

std::string ProductShape::text() const {
  const std::string_view how = epilogues[static_cast<std::size_t>(epilogue)];
  return fmt::format("{} x {} x {} {}{}{} to {}{}{}", m, n, k, name_of(type),
                     a_transposed ? ", a transposed" : "", b_transposed ? ", b transposed" : "",
                     name_of(c_type), adds ? ", added" : "",
                     epilogue == Epilogue::none ? "" : fmt::format(", {}", how));
}

std::string AlgorithmTable::hash() const {
  std::string all = fmt::format("{}\n{}\n", gpu, library);
  for (const auto& [shape, tuned] : products)
    all += json_of(shape).dump() + (tuned.own ? "own" : digits_of(tuned.algorithm)) + "\n";
  return hex64(hash64(all));
}

std::string to_json(const AlgorithmTable& table) {
  nlohmann::json out = {{"version", version},
                        {"gpu", table.gpu},
                        {"library", table.library},
                        {"products", nlohmann::json::array()}};
  for (const auto& [shape, tuned] : table.products) {
    nlohmann::json one = json_of(shape);
    one["algorithm"] = digits_of(tuned.algorithm);
    one["own"] = tuned.own;
    one["seconds"] = tuned.seconds, one["first_seconds"] = tuned.first_seconds;
    out["products"].push_back(std::move(one));
  }
  return out.dump(1) + "\n";
}

AlgorithmTable parse_algorithms(std::string_view text, const std::string& where) {
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  require(!object.is_discarded(), [&] {
    return Reader(nlohmann::json::object(), where).wrong("one JSON object", "no JSON");
  });
  const Reader reader(object, where);
  reader.integer("version", version, version);
  AlgorithmTable out;
  out.gpu = reader.text("gpu");
  out.library = reader.integer("library", 0, INT64_MAX);
  const nlohmann::json& products = reader.at("products");
  require(products.is_array() && products.size() <= most_products,
          [&] { return reader.wrong("products: a list", "something else"); });
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Reader one(products[i], fmt::format("{} products[{}]", where, i));
    const TunedProduct tuned{.algorithm = one.algorithm("algorithm"),
                             .seconds = one.seconds("seconds"),
                             .first_seconds = one.seconds("first_seconds"),
                             .own = one.flag("own")};
    require(out.products.emplace(shape_of(one), tuned).second,
            [&] { return one.wrong("every product once", "one of them twice"); });
  }
  return out;
}

AlgorithmTable load_algorithms(const std::string& path) {
  return parse_algorithms(read_file(path, most_bytes), path);
}

void save_algorithms(const std::string& path, const AlgorithmTable& table) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);  // open() tells why it failed
  write_file_atomic(path, to_json(table));
}

Chosen choose(ProductTrials& trials) {
  constexpr double faster = 0.97;
  constexpr std::size_t most_contenders = 4;
  std::vector<int> who(static_cast<std::size_t>(trials.count()));
  for (std::size_t i = 0; i < who.size(); ++i) who[i] = static_cast<int>(i);
  if (who.empty()) return {};
  const std::vector<double> first = round_of(trials, who);
  const auto by = [](const std::vector<double>& seconds) {
    return [&seconds](std::size_t a, std::size_t b) { return seconds[a] < seconds[b]; };
  };
  std::vector<std::size_t> order(who.begin(), who.end());
  std::sort(order.begin(), order.end(), by(first));

  std::vector<int> again{0};
  for (const std::size_t i : order)
    if (first[i] <= faster * first[0] && again.size() <= most_contenders)
      again.push_back(static_cast<int>(i));
  const std::vector<double> second = round_of(trials, again);
  std::vector<std::size_t> contenders;
  for (std::size_t i = 1; i < again.size(); ++i)
    if (second[i] <= faster * second[0]) contenders.push_back(i);
  std::sort(contenders.begin(), contenders.end(), by(second));
  for (const std::size_t i : contenders)
    if (trials.repeats(again[i])) return {again[i], second[i], second[0]};
  if (trials.repeats(0)) return {0, second[0], second[0]};
  // What the library would take is not to be had: whatever is fastest and repeats.
  for (const std::size_t i : order)
    if (i != 0 && trials.repeats(static_cast<int>(i)))
      return {static_cast<int>(i), first[i], first[0]};
  return {};
}

}  // namespace sluice
