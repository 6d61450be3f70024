// Machine descriptions as TOML. With train/config_toml.cpp the only sources that see toml++.
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "planner/description.h"

namespace sluice {
namespace {

constexpr std::size_t most_bytes = 1 << 20;
constexpr std::ptrdiff_t most_dots = 20'000;  // toml++ frees tables by recursion
constexpr std::size_t most_rows = 10'000;
constexpr std::size_t most_text = 300;                    // characters
constexpr double least_value = 1e-12, most_value = 1e18;  // bytes stay below 2^63
constexpr std::int64_t most_size = std::int64_t{1} << 40;

struct NamedFigure {
  const char* name;
  Figure Machine::*value;
};
constexpr NamedFigure figures[] = {
    {"device_memory", &Machine::device_memory},
    {"device_reserved", &Machine::device_reserved},
    {"host_memory", &Machine::host_memory},
    {"host_pinnable", &Machine::host_pinnable},
    {"host_reserved", &Machine::host_reserved},
    {"disk_memory", &Machine::disk_memory},
    {"cores", &Machine::cores},
    {"memory_rate", &Machine::memory_rate},
    {"launch", &Machine::launch},
    {"host_in", &Machine::host_in},
    {"host_out", &Machine::host_out},
    {"host_both", &Machine::host_both},
    {"host_beside", &Machine::host_beside},
    {"shared_in", &Machine::shared_in},
    {"shared_devices", &Machine::shared_devices},
    {"slowing_part", &Machine::slowing_part},
    {"slowing_rate", &Machine::slowing_rate},
    {"disk_in", &Machine::disk_in},
    {"disk_out", &Machine::disk_out},
    {"disk_both", &Machine::disk_both},
};

// One table of the file, every look at which is checked.
class Reader {
 public:
  Reader(const toml::table& table, std::string key, const std::string& where)
      : table_(table), key_(std::move(key)), where_(where) {}

  [[noreturn]] void refuse(const toml::node* node, const std::string& key,
                           const std::string& expected, const std::string& found) const {
    const auto line = (node != nullptr ? node->source() : table_.source()).begin.line;
    throw Error(Exit::usage, {fmt::format("{} describes no machine", where_),
                              fmt::format("{}:{} {}{}", where_, line, key_, key),
                              expected,
                              found,
                              {}});
  }
  const toml::node* find(const std::string& key) {
    seen_.insert(key);
    return table_.get(key);
  }
  std::string text(const std::string& key, const char* otherwise = nullptr) {
    const toml::node* node = find(key);
    if (node == nullptr && otherwise != nullptr) return otherwise;
    const auto* text = node == nullptr ? nullptr : node->as_string();
    const auto printable = [](const std::string& s) {
      return s.size() <= most_text && std::none_of(s.begin(), s.end(), [](unsigned char c) {
               return c < 0x20 || c == 0x7f;
             });
    };
    if (text == nullptr || !printable(text->get()))
      refuse(node, key, "a short line of text", node == nullptr ? "nothing" : "something else");
    return text->get();
  }
  std::int64_t size(const std::string& key) {
    const toml::node* node = find(key);
    const auto* number = node == nullptr ? nullptr : node->as_integer();
    if (number == nullptr || number->get() < 1 || number->get() > most_size)
      refuse(node, key, fmt::format("an integer from 1 to {}", most_size),
             node == nullptr ? "nothing" : "something else");
    return number->get();
  }
  double number(const std::string& key) {
    const toml::node* node = find(key);
    const double value =
        node == nullptr ? std::nan("") : node->value<double>().value_or(std::nan(""));
    if (!(value == 0 || (value >= least_value && value <= most_value)))
      refuse(node, key,
             fmt::format("0, or a number from {:.0e} to {:.0e}", least_value, most_value),
             node == nullptr ? "nothing" : "something else");
    return value;
  }
  bool flag(const std::string& key, bool otherwise) {
    const toml::node* node = find(key);
    if (node == nullptr) return otherwise;
    if (node->as_boolean() == nullptr) refuse(node, key, "true or false", "something else");
    return node->as_boolean()->get();
  }
  // The figure whose value is called `value`, in this table.
  Figure figure(const std::string& value) {
    Figure out;
    out.value = number(value);
    const std::string is = text("is");
    const Origin all[] = {Origin::assumed, Origin::published, Origin::measured};
    const auto* const found =
        std::find_if(std::begin(all), std::end(all), [&](Origin o) { return name_of(o) == is; });
    if (found == std::end(all)) refuse(find("is"), "is", "measured, published or assumed", is);
    out.is = *found;
    out.from = text("from", "");
    return out;
  }
  // Every key has been looked at.
  void finish() const {
    for (const auto& [key, node] : table_)
      if (!seen_.contains(std::string(key.str())))
        refuse(&node, std::string(key.str()), "a key of machine descriptions",
               std::string(key.str()));
  }
  template <class Read>
  void rows(const char* key, Read read) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto* array = node->as_array();
    if (array == nullptr || array->size() > most_rows)
      refuse(node, key, "a list", "something else");
    for (const toml::node& row : *array) {
      if (!row.is_table()) refuse(&row, key, "a list of tables", "something else");
      Reader reader(*row.as_table(), fmt::format("{}.", key), where_);
      read(reader);
      reader.finish();
    }
  }

 private:
  const toml::table& table_;
  std::string key_;
  const std::string& where_;
  std::set<std::string> seen_;
};

toml::table parse(std::string_view text, const std::string& where) {
  const auto refuse = [&](const std::string& at, const std::string& found) {
    return Error(Exit::usage, {fmt::format("{} is not TOML", where), at, {}, found, {}});
  };
  require(std::count(text.begin(), text.end(), '.') <= most_dots,
          [&] { return refuse(where, "too many dots"); });
  try {
    return toml::parse(text, where);
  } catch (const toml::parse_error& e) {
    throw refuse(fmt::format("{}:{}", where, e.source().begin.line), std::string(e.description()));
  }
}

Machine read(Reader& top, const std::string& where) {
  Machine out;
  out.name = top.text("name");
  out.about = top.text("about", "");
  out.device = top.text("device");
  if (out.device != "cpu" && out.device != "cuda")
    top.refuse(top.find("device"), "device", "cpu or cuda", out.device);
  out.model = top.text("model");
  out.isa = top.text("isa", "");
  out.real = top.flag("real", true);
  out.packs = top.flag("packs", out.device == "cpu");
  for (const NamedFigure& one : figures) {
    const toml::node* node = top.find(one.name);
    if (node == nullptr) continue;
    if (!node->is_table())
      top.refuse(node, one.name, "{ value = …, is = \"measured\", from = \"…\" }",
                 "something else");
    Reader reader(*node->as_table(), fmt::format("{}.", one.name), where);
    out.*one.value = reader.figure("value");
    reader.finish();
  }
  top.rows("gemm", [&](Reader& r) {
    out.gemm.push_back({r.size("m"), r.size("k"), r.size("n"), r.text("type"), r.figure("flops")});
    if (out.gemm.back().flops.value <= 0) r.refuse(r.find("flops"), "flops", "above 0", "0");
  });
  top.rows("attention", [&](Reader& r) {
    out.attention.push_back(
        {r.size("head"), r.size("sequence"), r.text("direction"), r.figure("flops")});
    if (out.attention.back().flops.value <= 0) r.refuse(r.find("flops"), "flops", "above 0", "0");
  });
  top.rows("ops", [&](Reader& r) {
    out.ops.push_back({r.text("op"), r.size("m"), r.size("k"), r.size("n"), r.figure("rate")});
    if (out.ops.back().rate.value <= 0) r.refuse(r.find("rate"), "rate", "above 0", "0");
  });
  top.rows("collectives", [&](Reader& r) {
    out.collectives.push_back(
        {r.text("name"), r.size("devices"), r.size("bytes"), r.figure("rate")});
  });
  return out;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15)
    return fmt::format("{}", static_cast<std::int64_t>(value));
  const std::string text = fmt::format("{}", value);  // the shortest that reads the same
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string figure_text(const char* name, const Figure& figure) {
  std::string out =
      fmt::format("{} = {}, is = \"{}\"", name, number_text(figure.value), name_of(figure.is));
  if (!figure.from.empty()) out += ", from = " + quoted(figure.from);
  return out;
}

}  // namespace

Machine parse_description(std::string_view text, const std::string& where) {
  const toml::table root = parse(text, where);
  Reader top(root, "", where);
  Machine out = read(top, where);
  top.finish();
  return out;
}

std::string unmeasured(const Machine& machine) {
  std::vector<std::string> out;
  for (const NamedFigure& one : figures)
    if ((machine.*one.value).value > 0 && (machine.*one.value).is != Origin::measured)
      out.emplace_back(one.name);
  const auto count = [&](const auto& rows, auto figure, const char* what) {
    const auto n = std::count_if(rows.begin(), rows.end(), [&](const auto& row) {
      return (row.*figure).is != Origin::measured;
    });
    if (n > 0) out.push_back(fmt::format("{} of {} {}", n, rows.size(), what));
  };
  count(machine.gemm, &GemmRate::flops, "products");
  count(machine.attention, &AttentionRate::flops, "attentions");
  count(machine.ops, &OpRate::rate, "ops");
  return fmt::format("{}", fmt::join(out, ", "));
}

std::string to_toml(const Machine& machine) {
  std::string out =
      fmt::format("name = {}\nabout = {}\ndevice = {}\nmodel = {}\n", quoted(machine.name),
                  quoted(machine.about), quoted(machine.device), quoted(machine.model));
  if (!machine.isa.empty()) out += fmt::format("isa = {}\n", quoted(machine.isa));
  if (!machine.real) out += "real = false\n";
  out += fmt::format("packs = {}\n\n", machine.packs);
  for (const NamedFigure& one : figures) {
    const Figure& figure = machine.*one.value;
    if (figure.value > 0)
      out += fmt::format("{:<15} = {{ {} }}\n", one.name, figure_text("value", figure));
  }
  const auto list = [&](const char* name, const auto& rows, const auto& text) {
    if (rows.empty()) return;
    out += fmt::format("\n{} = [\n", name);
    for (const auto& row : rows) out += fmt::format("  {{ {} }},\n", text(row));
    out += "]\n";
  };
  list("gemm", machine.gemm, [](const GemmRate& r) {
    return fmt::format("m = {}, k = {}, n = {}, type = {}, {}", r.m, r.k, r.n, quoted(r.type),
                       figure_text("flops", r.flops));
  });
  list("attention", machine.attention, [](const AttentionRate& r) {
    return fmt::format("head = {}, sequence = {}, direction = {}, {}", r.head, r.sequence,
                       quoted(r.direction), figure_text("flops", r.flops));
  });
  list("ops", machine.ops, [](const OpRate& r) {
    return fmt::format("op = {}, m = {}, k = {}, n = {}, {}", quoted(r.op), r.m, r.k, r.n,
                       figure_text("rate", r.rate));
  });
  list("collectives", machine.collectives, [](const CollectiveRate& r) {
    return fmt::format("name = {}, devices = {}, bytes = {}, {}", quoted(r.name), r.devices,
                       r.bytes, figure_text("rate", r.rate));
  });
  return out;
}

Machine load_machine(const std::string& name_or_path) {
  std::string names;
  for (const BuiltinMachine& one : builtin_machines()) {
    if (one.name == name_or_path) return parse_description(one.toml, std::string(one.name));
    names += (names.empty() ? "" : ", ") + std::string(one.name);
  }
  std::error_code ignored;
  const bool path_like =
      name_or_path.ends_with(".toml") || name_or_path.find('/') != std::string::npos;
  require(path_like || std::filesystem::exists(name_or_path, ignored), [&] {
    return Error(Exit::usage, {fmt::format("no machine is called {}", name_or_path),
                               "--machine",
                               fmt::format("a TOML file, or one of {}", names),
                               name_or_path,
                               {"sluice doctor --save FILE, to describe this one"}});
  });
  try {
    return parse_description(read_file(name_or_path, most_bytes), name_or_path);
  } catch (const Error& e) {
    throw Error(Exit::usage, e.report());
  }
}

}  // namespace sluice
