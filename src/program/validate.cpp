#include "program/validate.h"

#include <map>

#include "program/accesses.h"
#include "program/happens_before.h"

namespace sluice {
namespace {

// What lies in one span of the arena, and who touched it last.
struct Content {
  int writer = -1;  // node; -1: nobody in these two runs
  // The value, wherever it was copied from: when it was made, and by which node; -1: before these
  // two runs.
  int run = -1, micro = -1, version = -1;
  bool scratch = false;
  Meaning meaning;
  std::array<int, lanes> reader = none();  // per lane, the last since the writer
  int serial = -1;                         // the op that touched it last, to find aliases
  Meaning alias;

  static constexpr std::array<int, lanes> none() {
    std::array<int, lanes> out{};
    out.fill(-1);
    return out;
  }
};

class Validator {
 public:
  Validator(const ProgramSet& set, const Program& before, const Program& program)
      : program_(program),
        accesses_(set, before, program),
        order_(before, program),
        contents_(static_cast<std::size_t>(accesses_.spans())) {
    empty_slots(set, before.begins_settled);
  }

  // One order that lanes and waits allow stands for all: what is not ordered is refused on sight.
  std::int64_t run() {
    looks_ = accesses_.looks();
    for (const int node : order_.order()) {
      const Action& action = order_.action(node);
      const int run = order_.run_of(node);
      if (action.copies()) {
        copy(node, action);
        continue;
      }
      const std::span<const Spans> spans = accesses_.spans_of(run, action);
      std::size_t next = 0;
      for (Touch touch : accesses_.of(run, action)) {
        if (touch.op != op_ || node != node_) ++serial_;
        op_ = touch.op;
        node_ = node;
        touch.meaning = Accesses::meaning(action, touch);
        access(node, action, touch, spans[next++]);
      }
      looks_ += static_cast<std::int64_t>(action.waits.size());
    }
    return looks_;
  }

 private:
  // What a run may not take for granted: when no update is pending, anything in a slot. A pending
  // one needs weights and gradients where the run before left them, and their packed forms.
  void empty_slots(const ProgramSet& set, bool settled) {
    const Residency& residency = *set.residency;
    const MemoryMap& memory = set.memory;
    const auto set_empty = [&](std::int64_t begin, std::int64_t bytes, bool to) {
      const Spans spans = accesses_.range(begin, bytes);
      for (int span = spans.first; span < spans.last; ++span)
        contents_[static_cast<std::size_t>(span)].scratch = to;
    };
    const auto set_slots = [&](int layer, Region region, bool to) {
      if (const std::int64_t blob = residency.blob(layer, region); blob >= 0)
        set_empty(memory.base(region) + blob,
                  residency.blob_bytes(set.model->kind_of(layer), region), to);
    };
    const int layers = set.model->layer_count();
    for (const Kind kind : owned_kinds) {
      // Blocks' gradients that leave packed are not handed over, those of the ends are.
      const auto hands_over = [&](int layer) {
        if (settled || kind == Kind::optimizer) return false;
        return kind != Kind::gradients || !residency.packs() || residency.is_end(layer);
      };
      for (const bool handed_over : {false, true})
        for (int layer = 0; layer < layers; ++layer) {
          if (residency.slot(layer, kind) < 0 || hands_over(layer) != handed_over) continue;
          set_slots(layer, region_of(kind), !handed_over);
          if (kind == Kind::weights) set_slots(layer, Region::derived, !handed_over);
        }
      for (int staging = 0; staging < residency.stagings(kind); ++staging)
        for (const std::int64_t at :
             {residency.staging_in(kind, staging), residency.staging_out(kind, staging)})
          set_empty(memory.begin(Tier::host) + at, residency.staging_bytes(kind), true);
    }
  }

  void access(int node, const Action& action, const Touch& touch, const Spans& spans) {
    const bool reads = touch.reads && !(touch.accumulates && action.first);
    looks_ += spans.last - spans.first;
    for (int span = spans.first; span < spans.last; ++span) {
      Content& content = contents_[static_cast<std::size_t>(span)];
      check_order(node, touch, content, span);
      if (touch.op >= 0) check_alias(node, touch, content, span);
      if (reads) check_found(node, action, touch, content, spans, span);
    }
    for (int span = spans.first; span < spans.last; ++span) {
      Content& content = contents_[static_cast<std::size_t>(span)];
      if (touch.writes)
        write(node, action, touch, content);
      else
        content.reader[static_cast<std::size_t>(action.lane)] = node;
    }
  }

  // Bytes move, and what they mean with them.
  void copy(int node, const Action& action) {
    const Spans to = accesses_.copied_to(action);
    const bool load = action.phase == Phase::load;
    const Spans from = load ? to : accesses_.copied_from(action);
    const Touch reading = touch_of_copy(false), writing = touch_of_copy(true);
    if (to.last - to.first != from.last - from.first)
      report(fmt::format("{} copies between places that are not alike", order_.name(node)),
             to.first, {});
    looks_ += to.last - to.first;
    for (int i = 0; i < to.last - to.first; ++i) {
      Content& target = contents_[static_cast<std::size_t>(to.first + i)];
      check_order(node, writing, target, to.first + i);
      if (load) {
        write(node, action, writing, target);
        continue;
      }
      Content& source = contents_[static_cast<std::size_t>(from.first + i)];
      check_order(node, reading, source, from.first + i);
      source.reader[static_cast<std::size_t>(action.lane)] = node;
      target = source;
      target.writer = node;
      target.reader.fill(-1);
    }
  }

  Touch touch_of_copy(bool writes) const {
    return {.op = -1,
            .reads = !writes,
            .writes = writes,
            .accumulates = false,
            .scratch = false,
            .spot = {},
            .bytes = 0,
            .meaning = accesses_.batch_data(),
            .relative = false};
  }

  void write(int node, const Action& action, const Touch& touch, Content& content) {
    if (outlives_a_run(touch.meaning) && !touch.scratch) newest(touch.meaning) = node;
    content.version = node;
    content.writer = node;
    content.run = order_.run_of(node);
    content.micro = action.micro;
    content.scratch = touch.scratch;
    content.meaning = touch.meaning;
    content.reader.fill(-1);
  }

  static bool outlives_a_run(const Meaning& meaning) {
    return meaning.kind == ValueKind::weight || meaning.kind == ValueKind::gradient ||
           meaning.kind == ValueKind::state || meaning.kind == ValueKind::derived ||
           meaning.kind == ValueKind::packed;
  }
  // The node that made the newest version of a value; -1: none in these two runs.
  int& newest(const Meaning& meaning) {
    return newest_.try_emplace({meaning.name, meaning.layer}, -1).first->second;
  }

  void check_order(int node, const Touch& touch, const Content& content, int span) const {
    const auto unordered = [&](int other) {
      return other >= 0 && other != node && !order_.ordered(other, node);
    };
    if (unordered(content.writer)) report_race(content.writer, node, touch, span);
    if (!touch.writes) return;
    for (const int reader : content.reader)
      if (unordered(reader)) report_race(reader, node, touch, span);
  }

  // Two operands of one op on the same bytes, unless they are the same value.
  void check_alias(int node, const Touch& touch, Content& content, int span) const {
    if (content.serial == serial_ && !(content.alias == touch.meaning))
      report(fmt::format("{} uses the same bytes twice", order_.name(node)), span,
             fmt::format("{} beside {}", label(node, touch.meaning), label(node, content.alias)));
    content.serial = serial_;
    content.alias = touch.meaning;
  }

  void check_found(int node, const Action& action, const Touch& touch, Content& content,
                   const Spans& spans, int span) {
    switch (touch.meaning.kind) {
      case ValueKind::batch:
        return check_batch(node, action, touch, content, spans, span);
      case ValueKind::activation:
      case ValueKind::carry:
        if (!is_meant(touch, content) || content.run != order_.run_of(node) ||
            content.micro != action.micro)
          report_lost(node, touch, content, span);
        return;
      default:
        break;
    }
    // What outlives a run: nobody need have written it, but nobody else may have.
    if (content.meaning.name < 0) content.meaning = touch.meaning;
    if (content.scratch || !(content.meaning == touch.meaning) ||
        !is_complete(node, action, touch, content))
      report_lost(node, touch, content, span);
    if (outlives_a_run(touch.meaning) && newest(touch.meaning) != content.version)
      report(fmt::format("{} reads {} as it was before {}", order_.name(node),
                         label(node, touch.meaning), order_.name(newest(touch.meaning))),
             span, "an older copy");
  }

  // Sums grow by one micro-batch at a time, in order; what closes a step reads them when the last
  // one is in.
  bool is_complete(int node, const Action& action, const Touch& touch,
                   const Content& content) const {
    const bool same_run = content.run == order_.run_of(node);
    if (touch.accumulates)
      return same_run && (content.micro == action.micro || content.micro == action.micro - 1);
    const bool closes =
        !touch.writes &&
        (action.phase == Phase::finish ||
         (action.phase == Phase::norm && touch.meaning.kind == ValueKind::gradient));
    return !closes || (same_run && content.micro == action.micro);
  }

  static bool is_meant(const Touch& touch, const Content& content) {
    return content.writer >= 0 && !content.scratch && content.meaning == touch.meaning;
  }

  // A field of the batch lies where the load of the same run and micro-batch put it.
  void check_batch(int node, const Action& action, const Touch& touch, const Content& content,
                   const Spans& spans, int span) const {
    const bool loaded = content.writer >= 0 && content.meaning.kind == ValueKind::batch &&
                        content.run == order_.run_of(node) && content.micro == action.micro;
    if (!loaded) report_lost(node, touch, content, span);
    const Program& program = order_.program_of(node);
    const BatchLayout::Field* field = program.batch.find(accesses_.name(touch.meaning));
    const std::int64_t slot = order_.action(content.writer).to;
    if (field == nullptr || accesses_.begin(spans.first) != slot + field->offset)
      report_lost(node, touch, content, span);
  }

  // "d.attn of block 1"
  std::string label(int node, const Meaning& meaning) const {
    const std::string& name = accesses_.name(meaning);
    if (meaning.layer < 0) return name;
    const ModelGraphs& model = *order_.program_of(node).model;
    if (meaning.kind == ValueKind::carry)
      return fmt::format("{} {} and {}", name, model.layer_name(meaning.layer - 1),
                         model.layer_name(meaning.layer));
    return fmt::format("{} of {}", name, model.layer_name(meaning.layer));
  }

  [[noreturn]] void report_race(int earlier, int node, const Touch& touch, int span) const {
    report(fmt::format("{} and {} touch the same bytes and neither waits for the other",
                       order_.name(earlier), order_.name(node)),
           span, label(node, touch.meaning));
  }

  [[noreturn]] void report_lost(int node, const Touch& touch, const Content& content,
                                int span) const {
    const std::string wanted = label(node, touch.meaning);
    if (content.writer < 0 && (content.meaning.name < 0 || content.meaning == touch.meaning))
      report(fmt::format("{} reads {}, which nobody wrote", order_.name(node), wanted), span, {});
    if (content.writer < 0)
      report(fmt::format("{} reads {} from the place of another value", order_.name(node), wanted),
             span, label(node, content.meaning));
    report(fmt::format("{} reads {}, but {} was the last to write there", order_.name(node), wanted,
                       order_.name(content.writer)),
           span, label(content.writer, content.meaning));
  }

  [[noreturn]] void report(const std::string& what, int span, const std::string& found) const {
    const std::int64_t end = span + 1 < accesses_.spans() ? accesses_.begin(span + 1) : -1;
    throw Error(Exit::internal, {what,
                                 fmt::format("program {}, bytes {} to {}", program_.name,
                                             accesses_.begin(span), end),
                                 "every read ordered behind the one write that it means",
                                 found,
                                 {}});
  }

  const Program& program_;
  Accesses accesses_;
  HappensBefore order_;
  std::vector<Content> contents_;
  std::map<std::pair<int, int>, int> newest_;  // by name and layer
  int serial_ = 0, op_ = -1, node_ = -1;
  std::int64_t looks_ = 0;
};

}  // namespace

std::int64_t validate(const ProgramSet& set, const Program& before, const Program& program) {
  return Validator(set, before, program).run();
}

void validate(const ProgramSet& set) {
  for (const Program& before : set.programs)
    for (const Program& program : set.programs)
      if (before.ends_settled == program.begins_settled) validate(set, before, program);
}

}  // namespace sluice
