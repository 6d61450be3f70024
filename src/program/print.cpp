#include "program/print.h"

#include <algorithm>
#include <array>
#include <set>

namespace sluice {
namespace {

constexpr auto regions = static_cast<std::size_t>(Region::count);

// "12,345,678"
std::string grouped(std::int64_t number) {
  std::string digits = fmt::format("{}", number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += between;
    out += word;
  }
  return out;
}

// "layer_norm, linear x3, gelu": neighbours of one kind together, broken into lines of 100 columns
// that begin under the first one.
std::string ops_text(const std::vector<Op>& ops, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  for (std::size_t i = 0; i < ops.size();) {
    std::size_t end = i + 1;
    while (end < ops.size() && ops[end].index() == ops[i].index()) ++end;
    std::string word = name_of(ops[i]);
    if (end > i + 1) word += fmt::format(" x{}", end - i);
    if (i > 0 && column + word.size() > 100) {
      out += fmt::format(",\n{:{}}", "", indent);
      column = indent;
    } else if (i > 0) {
      out += ", ";
    }
    out += word;
    column += word.size() + 2;
    i = end;
  }
  return out;
}

// "y = linear(x, w, bias)", "head_loss(...) adds to stats", "adamw(g) updates w".
std::string op_text(const LayerGraph& graph, const Op& op) {
  std::array<std::vector<std::string>, 4> names;  // by Access
  for_each_operand(op, [&](Id id, Access access) {
    auto& list = names[static_cast<std::size_t>(access)];
    const std::string& name = graph[id].name;
    if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
  });
  const auto& [reads, writes, adds, updates] = names;
  std::string out = fmt::format("{}{}{}({})", joined(writes, ", "), writes.empty() ? "" : " = ",
                                name_of(op), joined(reads, ", "));
  if (!adds.empty()) out += " adds to " + joined(adds, ", ");
  if (!updates.empty()) out += " updates " + joined(updates, ", ");
  return out;
}

void print_ops(std::string& out, const LayerGraph& graph, const char* title,
               const std::vector<Op>& ops) {
  if (ops.empty()) return;
  out += fmt::format("  {}\n", title);
  for (const Op& op : ops) out += fmt::format("    {}\n", op_text(graph, op));
}

Region region_of(const MemoryMap& memory, std::int64_t offset) {
  std::size_t region = regions - 1;
  while (region > 0 && memory.base(static_cast<Region>(region)) > offset) --region;
  return static_cast<Region>(region);
}

class ProgramPrinter {
 public:
  ProgramPrinter(const ProgramSet& set, const Program& program) : set_(set), program_(program) {}

  std::string text() {
    out_ =
        fmt::format("program {}: {} layers, {} micro-batches, {} actions\n", program_.name,
                    program_.model->layer_count(), program_.micro_batches, program_.actions.size());
    out_ +=
        "A lane runs its lines from top to bottom; \"after\" names what it waits for on the other "
        "lane.\n\n";
    out_ += fmt::format("{:>5}  {:<7}  {:<{}}  {:<59} {}\n", "#", "lane", "action", name_width(),
                        "memory: reads -> writes", "after");
    for (int i = 0; i < static_cast<int>(program_.actions.size()); ++i) print_action(i);
    end_fold();
    out_ += "\nwhat the actions run\n";
    for (const OpList& list : program_.lists)
      if (!list.ops.empty())
        out_ += fmt::format("  {:<21}  {}\n", list.name, ops_text(list.ops, 25));
    return std::move(out_);
  }

 private:
  void print_action(int index) {
    const Action& action = program_.actions[static_cast<std::size_t>(index)];
    if (is_middle_micro_batch(action) || is_middle_block(action)) {
      ++folded_;
      return;
    }
    end_fold();
    std::string line =
        fmt::format("{:>5}  {:<7}  {:<{}}  {:<59} {}", index, name_of(action.lane),
                    program_.action_name(index), name_width(), memory(action), waits(action));
    line.erase(line.find_last_not_of(' ') + 1);
    out_ += line + "\n";
  }

  void end_fold() {
    if (folded_ > 0)
      out_ += fmt::format("    …  {} more: the same for the layers and micro-batches between\n",
                          folded_);
    folded_ = 0;
  }

  int name_width() const { return program_.model->parts == 1 ? 29 : 33; }

  // Micro-batches 2 to last - 1 of five or more are like 1 (their slots alternate).
  bool is_middle_micro_batch(const Action& action) const {
    return program_.micro_batches > 4 && action.micro > 2 &&
           action.micro < program_.micro_batches - 1;
  }

  // Blocks 1 to last - 1 of five or more.
  bool is_middle_block(const Action& action) const {
    const ModelGraphs& model = *program_.model;
    return model.layers > 4 && action.waits.empty() && action.layer > model.parts &&
           action.layer <= model.parts * (model.layers - 1);
  }

  std::string memory(const Action& action) const {
    if (action.phase == Phase::load)
      return fmt::format("staging -> batch slot {}", program_.slot_of(action.micro));
    if (action.copies()) {
      const std::string slot = fmt::format("{} slot {}", name_of(action.kind), action.slot);
      if (action.phase == Phase::keep) return "carry -> " + slot;
      const int staging = set_.residency->staging(action.layer, action.kind);
      const std::string host =
          staging < 0 ? "host" : fmt::format("{} staging {}", name_of(action.kind), staging);
      if (action.phase == Phase::read) return "disk -> " + host;
      if (action.phase == Phase::write) return host + " -> disk";
      return action.phase == Phase::fetch ? host + " -> " + slot : slot + " -> " + host;
    }
    const OpList& list = program_.list_of(action);
    std::set<Region> reads, writes;
    for (const Op& op : list.ops)
      for_each_operand(op, [&](Id id, Access access) {
        const std::int64_t offset = list.values[static_cast<std::size_t>(id)].in(action.at);
        if (offset < 0) return;
        const Region region = region_of(set_.memory, offset);
        if (access == Access::read || access == Access::update) reads.insert(region);
        if (access != Access::read) writes.insert(region);
      });
    return fmt::format("{} -> {}", names(reads), names(writes));
  }

  static std::string names(const std::set<Region>& which) {
    std::vector<std::string> words;
    for (const Region region : which) words.emplace_back(name_of(region));
    return joined(words, " ");
  }

  std::string waits(const Action& action) const {
    std::vector<std::string> words;
    for (const Wait& wait : action.waits) {
      if (wait.action >= 0)
        words.push_back(fmt::format("#{} {}", wait.action, program_.action_name(wait.action)));
      else
        words.push_back(
            fmt::format("the previous run's {}", set_.marks.name(wait.mark, *program_.model)));
    }
    return joined(words, ", ");
  }

  const ProgramSet& set_;
  const Program& program_;
  std::string out_;
  int folded_ = 0;
};

struct Extent {
  std::int64_t begin = -1, end = -1;
  void add(std::int64_t offset, std::int64_t bytes) {
    begin = begin < 0 ? offset : std::min(begin, offset);
    end = std::max(end, offset + bytes);
  }
};
using Blobs = std::array<Extent, regions>;

// Then stashes have slots, and no places of their own on the device.
bool spills(const Program& program) {
  return std::any_of(program.actions.begin(), program.actions.end(),
                     [](const Action& action) { return action.kind == Kind::stash; });
}

// What a layer owns, from the residency; its stash, from where the training program puts values.
std::vector<Blobs> blobs_of(const ProgramSet& set) {
  const ModelGraphs& model = *set.model;
  std::vector<Blobs> out(static_cast<std::size_t>(model.layer_count()));
  for (int layer = 0; layer < model.layer_count(); ++layer) {
    const LayerGraph& graph = model.of(model.kind_of(layer));
    for (const Value& value : graph.values) {
      if (value.owner != graph.kind || value.kind == ValueKind::global) continue;
      const Place place = set.residency->find(graph.kind, value);
      if (place.known())
        out[static_cast<std::size_t>(layer)][static_cast<std::size_t>(place.region)].add(
            set.memory.base(place.region) + set.residency->blob(layer, place.region) + place.offset,
            value_bytes(value.type));
    }
  }
  for (const Program& program : set.programs) {
    if (program.name != "first" || spills(program)) continue;
    for (const Action& action : program.actions) {
      if (action.phase != Phase::input_grad && action.phase != Phase::weight_grad) continue;
      const LayerGraph& graph = model.of(model.kind_of(action.layer));
      const std::vector<Spot>& spots = program.list_of(action).values;
      for (std::size_t v = 0; v < spots.size(); ++v) {
        const std::int64_t at = spots[v].in(action.at);
        const Id id = static_cast<Id>(v);  // these two are kept by the layer above
        if (at >= 0 && id != graph.carry_out && id != graph.side_out &&
            region_of(set.memory, at) == Region::stash)
          out[static_cast<std::size_t>(action.layer)][static_cast<std::size_t>(Region::stash)].add(
              at, value_bytes(graph.values[v].type));
      }
    }
  }
  return out;
}

}  // namespace

std::string print_graph(const ModelGraphs& model) {
  std::string out =
      fmt::format("{} blocks, {} parameters, micro-batches of {} x {} tokens\n", model.layers,
                  grouped(model.parameters()), model.shape.batch, model.shape.time);
  for (const LayerKind kind :
       {LayerKind::embedding, LayerKind::block, LayerKind::mlp, LayerKind::head, LayerKind::step}) {
    const LayerGraph& graph = model.of(kind);
    if (graph.values.empty()) continue;
    out += fmt::format("\n{}\n  values\n", model.name_of(kind));
    for (const Value& value : graph.values)
      out +=
          fmt::format("    {:<28} {:<5} {:<26} {}{}\n", value.name, name_of(value.type.dtype),
                      value.type.shape.text(), name_of(value.kind),
                      value.owner == kind ? "" : fmt::format(" of the {}", name_of(value.owner)));
    print_ops(out, graph, "forward (F)", graph.forward);
    print_ops(out, graph, "input gradient (I)", graph.input_grad);
    print_ops(out, graph, "weight gradient (W)", graph.weight_grad);
    print_ops(out, graph, "norm", graph.norm);
    print_ops(out, graph, "update", graph.update);
  }
  return out;
}

std::string print_program(const ProgramSet& set, const Program& program) {
  return ProgramPrinter(set, program).text();
}

std::string print_memory(const ProgramSet& set) {
  std::string out = fmt::format("{:<12} {:>22} {:>22}\n", "region", "offset", "bytes");
  for (std::size_t r = 0; r < regions; ++r) {
    const auto region = static_cast<Region>(r);
    out += fmt::format("{:<12} {:>22} {:>22}\n", name_of(region), grouped(set.memory.base(region)),
                       grouped(set.memory.bytes(region)));
  }
  out += fmt::format("{:<12} {:>22} {:>22}\n", "all", "", grouped(set.memory.total()));
  if (set.memory.host_bytes() > 0)
    out +=
        fmt::format("{:<12} {:>22} {:>22}\n", "on the host", "", grouped(set.memory.host_bytes()));
  out += "\n";
  out += fmt::format("{:<12} {:<10} {:>22} {:>22}\n", "layer", "blob", "offset", "bytes");
  const std::vector<Blobs> blobs = blobs_of(set);
  for (std::size_t layer = 0; layer < blobs.size(); ++layer)
    for (std::size_t r = 0; r < regions; ++r) {
      const Extent& blob = blobs[layer][r];
      if (blob.begin < 0) continue;
      out += fmt::format(
          "{:<12} {:<10} {:>22} {:>22}\n", set.model->layer_name(static_cast<int>(layer)),
          name_of(static_cast<Region>(r)), grouped(blob.begin), grouped(blob.end - blob.begin));
    }
  return out;
}

}  // namespace sluice
