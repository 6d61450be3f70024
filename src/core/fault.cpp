#include "core/fault.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

namespace sluice {

namespace {

struct Point {
  std::string_view name;
  enum class Kind { system_call, write, option, plain, argument } kind;
};

// Every place that can be made to fail: a save's in the order that it passes them, the scratch
// file's, the loop's.
constexpr Point point_table[] = {
    {"save.mkdir", Point::Kind::system_call},  {"save.open", Point::Kind::system_call},
    {"save.write", Point::Kind::write},        {"save.fsync", Point::Kind::system_call},
    {"save.close", Point::Kind::system_call},  {"save.rename", Point::Kind::system_call},
    {"save.remove", Point::Kind::system_call}, {"scratch.open", Point::Kind::system_call},
    {"scratch.direct", Point::Kind::option},   {"scratch.allocate", Point::Kind::system_call},
    {"scratch.read", Point::Kind::write},      {"scratch.write", Point::Kind::write},
    {"train.step", Point::Kind::plain},        {"train.flip", Point::Kind::argument},
    {"train.poison", Point::Kind::argument},   {"train.break", Point::Kind::argument},
};

Error spec_error(std::string what, std::string_view entry, std::string expected,
                 std::string_view try_this) {
  Report report{std::move(what), "the fault spec", std::move(expected), std::string(entry), {}};
  if (!try_this.empty()) report.tries.emplace_back(try_this);
  return Error(Exit::usage, std::move(report));
}

std::vector<std::string> actions_of(Point::Kind kind) {
  if (kind == Point::Kind::argument) return {};
  if (kind == Point::Kind::option) return {"einval"};
  std::vector<std::string> names{"kill", "enospc", "eio"};
  if (kind == Point::Kind::write) names.emplace_back("short");
  return names;
}

}  // namespace

std::vector<std::string> Faults::points() {
  std::vector<std::string> names;
  for (const Point& p : point_table) names.emplace_back(p.name);
  return names;
}

std::size_t Faults::index_of(std::string_view point) {
  static_assert(std::size(point_table) <= max_points);
  for (std::size_t i = 0; i < std::size(point_table); ++i) {
    if (point_table[i].name == point) return i;
  }
  throw Error(fmt::format("no fault point is called {}", point));
}

Faults Faults::parse(std::string_view spec) {
  Faults out;
  while (!spec.empty()) {
    const std::size_t comma = spec.find(',');
    const std::string_view entry = spec.substr(0, comma);
    spec = comma == std::string_view::npos ? std::string_view{} : spec.substr(comma + 1);
    // A tensor's name may hold dots but neither ':' nor '@'.
    const std::size_t colon = entry.find(':');
    const std::size_t at = entry.rfind('@');
    require(colon != std::string_view::npos && at != std::string_view::npos && colon + 1 < at, [&] {
      return spec_error("a fault is not understood", entry, "POINT:ACTION@COUNT",
                        "save.write:kill@3");
    });
    const std::string_view name = entry.substr(0, colon);
    const std::string_view action = entry.substr(colon + 1, at - colon - 1);
    std::string_view digits = entry.substr(at + 1);
    const bool later_too = digits.ends_with('+');
    if (later_too) digits.remove_suffix(1);

    std::size_t index = 0;
    while (index < std::size(point_table) && point_table[index].name != name) ++index;
    require(index < std::size(point_table), [&] {
      return spec_error(fmt::format("no fault point is called {}", name), entry,
                        fmt::format("one of {}", fmt::join(points(), ", ")),
                        nearest(name, points()));
    });
    const std::vector<std::string> actions = actions_of(point_table[index].kind);
    bool known = actions.empty();
    for (const std::string& a : actions) known |= a == action;
    require(known, [&] {
      return spec_error(fmt::format("no action at {} is called {}", name, action), entry,
                        fmt::format("one of {}", fmt::join(actions, ", ")),
                        nearest(action, actions));
    });
    std::int64_t count = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    require(status == std::errc{} && end == digits.data() + digits.size() && count >= 1, [&] {
      return spec_error("a fault's count is not a number", entry, "an integer of at least 1", "");
    });
    out.entries_.push_back({index, std::string(action), count, later_too});
  }
  return out;
}

Faults::Effect Faults::at(std::string_view point) {
  const std::size_t index = index_of(point);
  const std::int64_t count = ++counts_[index];
  Effect effect;
  for (const Entry& entry : entries_) {
    if (!entry.matches(index, count)) continue;
    if (entry.action == "kill") std::raise(SIGKILL);
    if (entry.action == "enospc") effect.error = ENOSPC;
    if (entry.action == "eio") effect.error = EIO;
    if (entry.action == "einval") effect.error = EINVAL;
    if (entry.action == "short") effect.shorten = true;
  }
  return effect;
}

void Faults::hit(std::string_view point) {
  const int error = errno_at(point);
  if (error != 0) throw disk_error("pass the fault point", std::string(point), error);
}

bool Faults::plans(std::string_view point) const {
  const std::size_t p = index_of(point);
  for (const Entry& entry : entries_)
    if (entry.point == p) return true;
  return false;
}

std::optional<std::string> Faults::argument(std::string_view point, std::int64_t count) const {
  const std::size_t index = index_of(point);
  for (const Entry& entry : entries_) {
    if (entry.matches(index, count)) return entry.action;
  }
  return std::nullopt;
}

Error disk_error(std::string_view verb, const std::string& path, int error, const char* file,
                 int line) {
  Report report{fmt::format("cannot {} {}: {}", verb, path, std::strerror(error)), {}, {}, {}, {}};
  if (error == ENOSPC || error == EDQUOT) report.tries.emplace_back("free space on that disk");
  return Error(Exit::disk, std::move(report), file, line);
}

}  // namespace sluice
