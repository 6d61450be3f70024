#include "models/freeze.h"

#include <algorithm>

#include "models/family.h"

namespace sluice {
namespace {

bool matches(std::string_view pattern, std::string_view name) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  for (std::size_t from = star; from <= name.size(); ++from)
    if (matches(pattern.substr(star + 1), name.substr(from))) return true;
  return false;
}

class Freezer {
 public:
  Freezer(ModelGraphs& model, const ModelConfig& config)
      : model_(model), family_(family_of(config)) {}

  void apply(const std::string& pattern) {
    bool found = false;
    for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
      for (Parameter& p : model_.of(kind).parameters) found |= apply(pattern, kind, p);
    if (!found) refuse(pattern);
  }

  void require_something_left() const {
    std::int64_t trained = 0;
    for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
      trained += model_.of(kind).trained();
    require(trained > 0, [&] {
      return Error(Exit::usage, {"every tensor is frozen: there is nothing to train",
                                 "optim.freeze",
                                 "patterns that leave a tensor",
                                 {},
                                 {"optim.freeze = \"\""}});
    });
  }

 private:
  int copies(LayerKind kind) const { return kind == LayerKind::block ? model_.layers : 1; }

  bool apply(const std::string& pattern, LayerKind kind, Parameter& p) {
    int selected = 0;
    for (int i = 0; i < copies(kind); ++i)
      selected += matches(pattern, family_.tensor_name(kind, i, p.name)) ? 1 : 0;
    if (selected == 0) return false;
    require(selected == copies(kind), [&] {
      return Error(Exit::usage,
                   {"a pattern freezes a tensor in some blocks only",
                    "optim.freeze",
                    fmt::format("all {} blocks or none", copies(kind)),
                    fmt::format("{}, which selects {} in {} of them", pattern, p.name, selected),
                    {fmt::format("\"*{}\"", p.name)}});
    });
    p.frozen = true;
    for (const LayerKind user : {LayerKind::embedding, LayerKind::block, LayerKind::head})
      for (Value& value : model_.of(user).values)
        if (value.kind == ValueKind::weight && value.owner == kind &&
            (user == kind ? value.name : value.owner_name) == p.name)
          value.frozen = true;
    return true;
  }

  [[noreturn]] void refuse(const std::string& pattern) const {
    std::vector<std::string> names;
    for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
      for (const Parameter& p : model_.of(kind).parameters)
        names.push_back(kind == LayerKind::block ? "*." + p.name
                                                 : family_.tensor_name(kind, 0, p.name));
    Report report{"a pattern of tensors to freeze matches nothing",
                  "optim.freeze",
                  "a name of this model's tensors, in which * stands for any text",
                  pattern,
                  {}};
    const std::string near = nearest(pattern, names);
    report.tries.push_back(near.empty() ? fmt::format("one of {}", fmt::join(names, ", "))
                                        : fmt::format("\"{}\"", near));
    throw Error(Exit::usage, std::move(report));
  }

  ModelGraphs& model_;
  const Family& family_;
};

}  // namespace

void freeze(ModelGraphs& model, const ModelConfig& config,
            const std::vector<std::string>& patterns) {
  Freezer freezer(model, config);
  for (const std::string& pattern : patterns) freezer.apply(pattern);
  if (!patterns.empty()) freezer.require_something_left();
}

std::vector<std::string> split_patterns(const std::string& list) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    std::string part = list.substr(at, end - at);
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    part.erase(part.begin(), std::find_if_not(part.begin(), part.end(), blank));
    while (!part.empty() && blank(part.back())) part.pop_back();
    if (!part.empty()) out.push_back(std::move(part));
    at = end + 1;
  }
  return out;
}

}  // namespace sluice
