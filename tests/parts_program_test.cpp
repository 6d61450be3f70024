// Programs of blocks that stream in two parts, attention and MLP: valid in every combination, every
// mistake in them refused, and what they move and take is what the closed forms say.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "checkpoint/model_files.h"
#include "graph/parts.h"
#include "models/family.h"
#include "program/test_mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::Mutants;
using testing::streaming_plan;
using testing::tiny_programs;
using testing::TinyPlan;

TinyPlan plan_of(const char* family, int passes, const char* homes, int slots, bool spill = false,
                 GradientFormat gradients = GradientFormat::f32) {
  TinyPlan out = streaming_plan(family, passes, homes, slots);
  out.blobs = Blobs::parts;
  out.spill = spill;
  out.gradients = gradients;
  return out;
}

TEST(PartsProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3})
        for (const char* homes :
             {"device", "host", "weights=host", "disk,weights@1=host,gradients@0=device",
              "host,@ends=host", "disk,@ends=disk", "optimizer=host,gradients@embedding=host"})
          for (const Recompute recompute : {Recompute::none, Recompute::block})
            for (const bool spill : {false, true}) {
              TinyPlan plan = plan_of(family, passes, homes, slots, spill);
              plan.recompute = recompute;
              const ProgramSet set = tiny_programs(plan);
              EXPECT_NO_THROW(validate(set))
                  << family << " " << passes << " " << slots << " " << homes << " "
                  << name_of(recompute) << (spill ? " spilled" : "");
              programs += static_cast<int>(set.programs.size());
            }
  EXPECT_EQ(programs, 2 * 3 * 2 * 7 * 2 * 2 * 5);
}

// What a layer is changes neither tensors nor their order, nor an op of the mathematics.
TEST(PartsProgram, TensorsAndOpsAreThoseOfWholeBlocks) {
  for (const char* family : {"gpt2", "gptj"}) {
    TinyPlan plan = plan_of(family, 1, "host", 2);
    plan.fuse = false;
    const ModelGraphs parts = *tiny_programs(plan).model;
    plan.blobs = Blobs::layer;
    const ModelGraphs whole = *tiny_programs(plan).model;
    ModelConfig config = testing::tiny_model(family);
    config.layers = plan.layers;
    const auto names = [&](const ModelGraphs& model) {
      std::vector<std::string> out;
      for (const ModelTensor& tensor : model_tensors(model, config)) out.push_back(tensor.name);
      return out;
    };
    EXPECT_EQ(names(parts), names(whole));
    EXPECT_EQ(parts.parameters(), whole.parameters());
    const auto count = [](const LayerGraph& graph, std::vector<Op> LayerGraph::*list) {
      std::map<std::string, int> out;
      for (const Op& op : graph.*list) ++out[name_of(op)];
      return out;
    };
    const bool beside = std::string_view(family) == "gptj";  // its norm goes up, and comes down
    for (const auto list : {&LayerGraph::forward, &LayerGraph::input_grad, &LayerGraph::weight_grad,
                            &LayerGraph::update, &LayerGraph::norm}) {
      std::map<std::string, int> both = count(parts.block, list);
      for (const auto& [name, times] : count(parts.mlp, list)) both[name] += times;
      std::map<std::string, int> expected = count(whole.block, list);
      if (beside && (list == &LayerGraph::forward || list == &LayerGraph::input_grad))
        ++expected["scale"];
      EXPECT_EQ(both, expected) << family;
    }
    for (int layer = 0; layer < parts.layer_count(); ++layer) {
      const int number = parts.uncut(layer);
      EXPECT_EQ(parts.uncut_name(layer), whole.layer_name(number));
      EXPECT_EQ(uncut(parts.kind_of(layer)), whole.kind_of(number));
    }
    EXPECT_EQ(parts.layer_name(1), "attention 0");
    EXPECT_EQ(parts.layer_name(6), "mlp 2");
    EXPECT_EQ(parts.layer_name(7), "head");
  }
}

// A cut in another place would tear values apart that the family has not named.
TEST(PartsProgram, ACutThatOthersCrossIsRefused) {
  for (const char* family : {"gpt2", "gptj"}) {
    const ModelGraphs model =
        build_forward(testing::tiny_model(family), {2, 16}, standard_parametrization(), 8, {});
    int refused = 0;
    for (int cut = 1; cut < static_cast<int>(model.block.forward.size()); ++cut) {
      ModelGraphs wrong = model;
      wrong.block.cut = cut;
      if (cut == model.block.cut) {
        EXPECT_NO_THROW(cut_blocks(wrong));
        continue;
      }
      EXPECT_THROW(cut_blocks(wrong), Error) << family << " " << cut;
      ++refused;
    }
    EXPECT_EQ(refused, static_cast<int>(model.block.forward.size()) - 2);
  }
}

// Of both families and both kinds of step.
template <class Count>
Mutants of_all(const char* homes, bool spill, GradientFormat gradients, Count count) {
  Mutants out;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      SCOPED_TRACE(fmt::format("{} {}", family, passes));
      const ProgramSet set = tiny_programs(plan_of(family, passes, homes, 2, spill, gradients));
      const Mutants found = count(set, set.named("steady"));
      out.refused += found.refused;
      out.implied += found.implied;
    }
  return out;
}
template <class Count>
Mutants of_all(const char* homes, Count count) {
  return of_all(homes, false, GradientFormat::f32, count);
}

TEST(PartsProgram, AWaitIsNeededOrImplied) {
  const auto waits = testing::without_waits;
  EXPECT_EQ(of_all("host", waits), (Mutants{328, 72}));
  EXPECT_EQ(of_all("disk", waits), (Mutants{706, 170}));
  EXPECT_EQ(of_all("host,@ends=host", waits), (Mutants{442, 99}));
  EXPECT_EQ(of_all("device", true, GradientFormat::f32, waits), (Mutants{304, 18}));
  EXPECT_EQ(of_all("host", true, GradientFormat::bf16, waits), (Mutants{610, 98}));
}

TEST(PartsProgram, ReleasesAreNotOneActionEarlier) {
  const auto releases = [](const ProgramSet& set, const Program& program) {
    return testing::with_early_releases(set, program, true);
  };
  EXPECT_EQ(of_all("host", releases), (Mutants{192, 8}));
  EXPECT_EQ(of_all("disk", releases), (Mutants{548, 36}));
  EXPECT_EQ(of_all("device", true, GradientFormat::f32, releases), (Mutants{208, 10}));
}

int drop_each_copy(const char* homes, bool spill) {
  const Mutants found =
      of_all(homes, spill, GradientFormat::f32, [](const ProgramSet& set, const Program& steady) {
        Mutants out;
        for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
          if (!steady.actions[static_cast<std::size_t>(a)].copies()) continue;
          EXPECT_TRUE(testing::is_missed(set, "steady", a)) << steady.action_name(a);
          ++out.refused;
        }
        return out;
      });
  return found.refused;
}

TEST(PartsProgram, EveryCopyIsNeeded) {
  // As many as the closed form below says: loads, weights, gradients and state, with one pass and
  // with three. By disk each but the loads is two.
  constexpr int loads = 3, once = (8 + 6) + (4 + 4) + 12, thrice = (24 + 6) + (16 + 16) + 12;
  EXPECT_EQ(drop_each_copy("host", false), 2 * (2 * loads + once + thrice));
  EXPECT_EQ(drop_each_copy("disk", false), 2 * (2 * loads + 2 * (once + thrice)));
  EXPECT_EQ(drop_each_copy("device", true), 240);
}

// Sizes of the parts in the order of the layers, and the sum of some of them.
struct Parts {
  std::int64_t attention, mlp;
  std::int64_t sum(std::int64_t first, std::int64_t end) const {
    std::int64_t out = 0;
    for (std::int64_t i = first; i < end; ++i) out += i % 2 == 0 ? attention : mlp;
    return out;
  }
};

Parts parts_of(const ProgramSet& set, Kind kind) {
  return {set.residency->blob_bytes(LayerKind::block, region_of(kind)),
          set.residency->blob_bytes(LayerKind::mlp, region_of(kind))};
}

struct Moved {
  std::array<std::int64_t, copied_kinds> in{}, out{};
};

Moved moved_by(const Program& program) {
  Moved moved;
  for (const Action& action : program.actions) {
    if (action.phase == Phase::fetch)
      moved.in[static_cast<std::size_t>(action.kind)] += action.bytes;
    if (action.phase == Phase::leave)
      moved.out[static_cast<std::size_t>(action.kind)] += action.bytes;
  }
  return moved;
}

// Bytes that move in a steady step: each blob twice up and down, less what the turns find in place.
TEST(PartsProgram, MovesWhatTheClosedFormSays) {
  for (const char* family : {"gpt2", "gptj"})
    for (const int layers : {3, 5})
      for (const int slots : {2, 3, 4, 5})
        for (const int passes : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", family, layers, slots, passes));
          TinyPlan plan = plan_of(family, passes, "host", slots);
          plan.layers = layers;
          const ProgramSet set = tiny_programs(plan);
          const auto [in, out] = moved_by(set.named("steady"));
          const std::int64_t all = 2 * layers, n = slots, p = passes;
          const Parts w = parts_of(set, Kind::weights), g = parts_of(set, Kind::gradients),
                      s = parts_of(set, Kind::optimizer);
          ASSERT_LT(w.attention, w.mlp);
          // What shares its slot with no other.
          const auto alone = [&](const Parts& of) { return of.sum(std::min(n, all - n), n); };
          EXPECT_EQ(in[0], p * (2 * w.sum(0, all) - w.sum(0, n) - w.sum(all - n, all)));
          EXPECT_EQ(out[0], w.sum(0, all) - alone(w));
          const std::int64_t more = (p - 1) * (g.sum(0, all) - alone(g)) + g.sum(n, all);
          EXPECT_EQ(in[1], more);
          EXPECT_EQ(out[1], more);
          EXPECT_EQ(in[2], s.sum(0, all));
          EXPECT_EQ(out[2], s.sum(0, all));
        }
}

// The same with the ends off the device too. Each covers one slot, the first; a tied head, to which
// the embedding lends its table, the second one.
TEST(PartsProgram, MovesWhatTheClosedFormSaysWithTheEnds) {
  for (const char* family : {"gpt2", "gptj"})
    for (const int layers : {3, 5})
      for (const int slots : {2, 3, 4})
        for (const int passes : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", family, layers, slots, passes));
          TinyPlan plan = plan_of(family, passes, "host,@ends=host", slots);
          plan.layers = layers;
          plan.width = 64;
          const ProgramSet set = tiny_programs(plan);
          const Moved moved = moved_by(set.named("steady"));
          const bool tied = std::string_view(family) == "gpt2";
          const std::int64_t all = 2 * layers, n = slots, p = passes, top = all - n;
          const std::int64_t taken = tied ? 2 : 1;  // slots, while both ends are in use
          const auto ends = [&](Kind kind) {
            const auto of = [&](LayerKind layer) {
              return set.residency->blob_bytes(layer, region_of(kind));
            };
            return std::pair{of(LayerKind::embedding), of(LayerKind::head)};
          };
          // Of the n blobs from `first` on, those whose slots are not among the first `covered`.
          const auto found = [&](const Parts& of, std::int64_t first, std::int64_t covered) {
            std::int64_t out = 0;
            for (std::int64_t i = first; i < first + n; ++i)
              if (i % n >= covered) out += of.sum(i, i + 1);
            return out;
          };
          // What shares its slot with no other, nor with an end.
          const auto alone = [&](const Parts& of) {
            return of.sum(std::min(n, std::max(taken, top)), n);
          };
          const Parts w = parts_of(set, Kind::weights), g = parts_of(set, Kind::gradients),
                      s = parts_of(set, Kind::optimizer);
          const auto [w_embedding, w_head] = ends(Kind::weights);
          ASSERT_LE(std::max(w_embedding, w_head), w.attention);
          const std::int64_t sweeps = 2 * w.sum(0, all) - found(w, 0, 1) - found(w, top, taken);
          EXPECT_EQ(moved.in[0], p * (sweeps + (tied ? 2 : 1) * w_embedding + w_head));
          EXPECT_EQ(moved.out[0], w.sum(0, all) - alone(w) + w_embedding + w_head);
          const auto [g_embedding, g_head] = ends(Kind::gradients);
          const std::int64_t more =
              (p - 1) * (g.sum(0, all) - alone(g)) + g.sum(0, all) - found(g, 0, taken);
          EXPECT_EQ(moved.in[1], more + (p - 1) * g_embedding + (p + (tied ? 1 : 0)) * g_head);
          EXPECT_EQ(moved.out[1], more + (p - 1) * g_embedding + p * g_head);
          const auto [s_embedding, s_head] = ends(Kind::optimizer);
          EXPECT_EQ(moved.in[2], s.sum(0, all) + s_embedding + s_head);
          EXPECT_EQ(moved.out[2], moved.in[2]);
        }
}

// Two slots are one for attentions and one for MLPs: what one slot of whole blocks takes. An odd
// number of slots is of MLPs' size.
TEST(PartsProgram, EachSlotIsAsLargeAsWhatPassesThroughIt) {
  for (const char* family : {"gpt2", "gptj"}) {
    const auto ring = [&](Blobs blobs, int slots, Kind kind) {
      TinyPlan plan = plan_of(family, 1, "host", slots);
      plan.blobs = blobs;
      plan.width = 64;
      const ProgramSet set = tiny_programs(plan);
      return set.residency->slot_begin(kind, region_of(kind), slots);
    };
    TinyPlan plan = plan_of(family, 1, "host", 2);
    plan.width = 64;
    const ProgramSet set = tiny_programs(plan);
    for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer}) {
      const std::int64_t attention = set.residency->page_bytes(1, kind),
                         mlp = set.residency->page_bytes(2, kind);
      EXPECT_EQ(ring(Blobs::parts, 2, kind), attention + mlp);
      EXPECT_EQ(ring(Blobs::parts, 4, kind), 2 * (attention + mlp));
      EXPECT_EQ(ring(Blobs::parts, 3, kind), 3 * mlp);
      // Pages round each part up.
      EXPECT_NEAR(static_cast<double>(ring(Blobs::layer, 2, kind)),
                  2 * static_cast<double>(attention + mlp), 2 * blob_alignment);
    }
  }
}

}  // namespace
}  // namespace sluice
