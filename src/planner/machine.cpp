#include "planner/machine.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace sluice {
namespace {

constexpr int version = 1;
constexpr std::size_t most_bytes = 1 << 20;
constexpr std::size_t most_products = 1000, most_ops = 5000;
constexpr std::size_t most_text = 200;  // characters of a name
constexpr double most_rate = 1e18;      // per second; above it is no measurement

struct Bandwidth {
  const char* name;
  double MachineRates::*value;
};
constexpr Bandwidth bandwidths[] = {
    {"read_one_thread", &MachineRates::read_one}, {"read_all_threads", &MachineRates::read_all},
    {"copy_one_thread", &MachineRates::copy_one}, {"copy_all_threads", &MachineRates::copy_all},
    {"disk_write", &MachineRates::disk_write},    {"disk_read", &MachineRates::disk_read},
};

// One look at a value of the file; every refusal says where.
class Reader {
 public:
  Reader(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    require(object.is_object(), [&] { return wrong("an object", "something else"); });
  }

  Error wrong(const std::string& expected, const std::string& found) const {
    return Error(Exit::input, {"the machine file is damaged",
                               where_,
                               expected,
                               found,
                               {"sluice doctor, to measure anew"}});
  }
  const nlohmann::json& at(const char* key) const {
    const auto found = object_.find(key);
    require(found != object_.end(), [&] { return wrong(key, "nothing"); });
    return *found;
  }
  std::string text(const char* key) const {
    const nlohmann::json& value = at(key);
    const auto readable = [](const std::string& text) {
      for (const unsigned char c : text)
        if (c < 0x20 || c == 0x7f) return false;  // it is printed to terminals
      return text.size() <= most_text;
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
  double number(const char* key, double least, double most) const {
    const nlohmann::json& value = at(key);
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    require(std::isfinite(number) && number >= least && number <= most, [&] {
      return wrong(fmt::format("{}: a number from {} to {}", key, least, most), "something else");
    });
    return number;
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

ProductRate product_of(const nlohmann::json& object, const std::string& where) {
  constexpr std::int64_t most_size = std::int64_t{1} << 31;
  const Reader reader(object, where);
  ProductRate product;
  product.name = reader.text("name");
  product.direction = reader.text("direction");
  product.type = reader.text("type");
  product.m = reader.integer("m", 1, most_size);
  product.k = reader.integer("k", 1, most_size);
  product.n = reader.integer("n", 1, most_size);
  product.count = reader.integer("count", 1, 1 << 20);
  product.seconds = reader.number("seconds", 1e-12, 1e6);
  require(product.flops() <= most_rate,
          [&] { return reader.wrong("a rate that a machine can have", "a larger one"); });
  return product;
}

OpSpeed op_of(const nlohmann::json& object, const std::string& where) {
  const Reader reader(object, where);
  OpSpeed out;
  out.op = reader.text("op");
  const nlohmann::json& sizes = reader.at("sizes");
  const auto size = [](const nlohmann::json& n) {
    return n.is_number_unsigned() && n >= 1u && n <= std::uint64_t{1} << 50;
  };
  require(sizes.is_array() && sizes.size() == std::size(out.sizes) &&
              std::all_of(sizes.begin(), sizes.end(), size),
          [&] { return reader.wrong("sizes: three integers from 1", "something else"); });
  std::copy(sizes.begin(), sizes.end(), out.sizes);
  out.rate = reader.number("rate", 1, most_rate);
  return out;
}

// What files of before it was measured lack.
void read_in_a_step(const Reader& reader, const nlohmann::json& object, const std::string& where,
                    MachineRates& machine) {
  if (const auto ops = object.find("ops"); ops != object.end()) {
    require(ops->is_array() && ops->size() <= most_ops,
            [&] { return reader.wrong("ops: a list", "something else"); });
    for (const nlohmann::json& one : *ops) machine.ops.push_back(op_of(one, where + " ops"));
    machine.between_ops = reader.number("between_ops", 0, 1);
  }
  if (const auto beside = object.find("beside"); beside != object.end()) {
    const Reader both(*beside, where + " beside");
    machine.beside = {both.number("copy", 1, most_rate), both.number("compute", 1e-3, 1)};
  }
}

std::string shown(const MachineId& id) {
  return fmt::format("{}, {}, {} thread{}", id.cpu, id.isa, id.threads, id.threads == 1 ? "" : "s");
}

}  // namespace

double ProductRate::flops() const {
  return 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n) / seconds;
}

double product_flops(const MachineRates& machine, std::string_view type) {
  double flops = 0, seconds = 0;
  for (const ProductRate& product : machine.products) {
    if (product.type != type) continue;
    seconds += static_cast<double>(product.count) * product.seconds;
    flops += static_cast<double>(product.count) * product.seconds * product.flops();
  }
  return seconds > 0 ? flops / seconds : 0;
}

nlohmann::json to_json(const MachineRates& machine) {
  nlohmann::json out = {{"version", version},
                        {"cpu", machine.id.cpu},
                        {"isa", machine.id.isa},
                        {"threads", machine.id.threads},
                        {"date", machine.date},
                        {"quick", machine.quick},
                        {"products", nlohmann::json::array()}};
  for (const ProductRate& p : machine.products)
    out["products"].push_back({{"name", p.name},
                               {"direction", p.direction},
                               {"type", p.type},
                               {"m", p.m},
                               {"k", p.k},
                               {"n", p.n},
                               {"count", p.count},
                               {"seconds", p.seconds}});
  for (const AttentionSpeed& a : machine.attention)
    out["attention"].push_back({{"head", a.head},
                                {"sequence", a.sequence},
                                {"forward", a.forward},
                                {"backward", a.backward}});
  for (const OpSpeed& one : machine.ops)
    out["ops"].push_back({{"op", one.op}, {"sizes", one.sizes}, {"rate", one.rate}});
  if (!machine.ops.empty()) out["between_ops"] = machine.between_ops;
  if (machine.beside.copy > 0)
    out["beside"] = {{"copy", machine.beside.copy}, {"compute", machine.beside.compute}};
  for (const Bandwidth& b : bandwidths) out[b.name] = machine.*b.value;
  return out;
}

MachineRates parse_machine(std::string_view text, const std::string& where) {
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  require(!object.is_discarded(), [&] {
    return Reader(nlohmann::json::object(), where).wrong("one JSON object", "no JSON");
  });
  const Reader reader(object, where);
  reader.integer("version", version, version);
  MachineRates machine;
  machine.id.cpu = reader.text("cpu");
  machine.id.isa = reader.text("isa");
  machine.id.threads = static_cast<int>(reader.integer("threads", 1, 1 << 20));
  machine.date = reader.text("date");
  const nlohmann::json& quick = reader.at("quick");
  require(quick.is_boolean(), [&] { return reader.wrong("quick: true or false", quick.dump()); });
  machine.quick = quick;
  const nlohmann::json& products = reader.at("products");
  require(products.is_array() && products.size() <= most_products,
          [&] { return reader.wrong("products: a list", "something else"); });
  for (std::size_t i = 0; i < products.size(); ++i)
    machine.products.push_back(product_of(products[i], fmt::format("{} products[{}]", where, i)));
  if (const auto attention = object.find("attention"); attention != object.end()) {
    require(attention->is_array() && attention->size() <= most_products,
            [&] { return reader.wrong("attention: a list", "something else"); });
    for (const nlohmann::json& one : *attention) {
      const Reader row(one, where + " attention");
      machine.attention.push_back(
          {row.integer("head", 1, 1 << 20), row.integer("sequence", 1, 1 << 30),
           row.number("forward", 1, most_rate), row.number("backward", 1, most_rate)});
    }
  }
  read_in_a_step(reader, object, where, machine);
  for (const Bandwidth& b : bandwidths) machine.*b.value = reader.number(b.name, 0, most_rate);
  return machine;
}

void save_machine(const std::string& path, const MachineRates& machine) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);  // open() tells why it failed
  write_file_atomic(path, to_json(machine).dump(1) + "\n");
}

FoundMachine find_machine(const std::string& path, const MachineId& id) {
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(path, error))
    return {{}, "this machine was not measured"};
  try {
    MachineRates machine = parse_machine(read_file(path, most_bytes), path);
    if (machine.id.cpu != id.cpu || machine.id.isa != id.isa || machine.id.threads != id.threads)
      return {{},
              fmt::format("{} is of {}; this run is on {}", path, shown(machine.id), shown(id))};
    return {std::move(machine), {}};
  } catch (const Error& e) {
    const Report& report = e.report();
    std::string reason = fmt::format("{} ({})", report.what, report.where);
    if (!report.expected.empty()) reason += fmt::format(": not {}", report.expected);
    return {{}, std::move(reason)};
  }
}

}  // namespace sluice
