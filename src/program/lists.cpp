#include "program/lists.h"

namespace sluice {
namespace {

// The base of a value that its layer owns or borrows.
Base base_of(Region region, bool lent) {
  switch (region) {
    case Region::weights:
      return lent ? Base::lent_weights : Base::weights;
    case Region::gradients:
      return lent ? Base::lent_gradients : Base::gradients;
    case Region::derived:
      return lent ? Base::lent_derived : Base::derived;
    case Region::packed:
      return Base::packed;
    case Region::optimizer:
      return Base::optimizer;
    default:
      return Base::globals;
  }
}

class ListMaker {
 public:
  ListMaker(const Plumbing& plumbing, const Residency& residency, LayerKind kind, Phase phase,
            bool backward, bool packs)
      : plumbing_(plumbing),
        residency_(residency),
        graph_(plumbing.model->of(kind)),
        phase_(phase),
        backward_(backward),
        packs_(packs) {}

  OpList make() const {
    OpList out;
    out.name = fmt::format("{}.{}{}", plumbing_.model->name_of(graph_.kind), name_of(phase_),
                           packs_ && phase_ == Phase::norm ? "+pack" : "");
    out.kind = graph_.kind;
    out.ops = ops();
    for (std::size_t v = 0; v < graph_.values.size(); ++v)
      out.values.push_back(spot_of(static_cast<Id>(v)));
    const FrameLayout* const frame = this->frame();
    // Lists that run once a step have scratch alone, from the frame's begin.
    out.workspace.assign(out.ops.size(), frame == nullptr ? 0 : -1);
    if (frame != nullptr) {
      for (std::size_t i = 0; i < out.ops.size(); ++i)
        out.workspace[i] = frame->workspace[i + skipped()];
      add_freed(out, *frame);
    }
    if (phase_ == Phase::weight_grad) add_freed_after_backward(out);
    return out;
  }

 private:
  const Segments& segments() const { return plumbing_.of(graph_.kind, backward_); }

  const std::vector<Op>& ops() const {
    switch (phase_) {
      case Phase::forward:
        return segments().forward;
      case Phase::input_grad:
        return segments().backward_input;
      case Phase::weight_grad:
        return segments().backward_weight;
      case Phase::norm:
        return packs_ ? graph_.packed_norm : graph_.norm;
      case Phase::unpack:
        return graph_.unpack;
      case Phase::update:
        return graph_.update;
      case Phase::derive:
        return graph_.derive;
      case Phase::finish:
        return graph_.forward;
      case Phase::load:
      case Phase::fetch:
      case Phase::leave:
      case Phase::keep:
      case Phase::read:
      case Phase::write:
        break;
    }
    throw Error("a copy has no op list");
  }

  const FrameLayout* frame() const {
    if (graph_.kind == LayerKind::step) return nullptr;
    if (phase_ == Phase::forward) return &segments().forward_frame;
    if (phase_ == Phase::input_grad || phase_ == Phase::weight_grad)
      return &segments().backward_frame;
    return nullptr;
  }

  // I and W share a frame: the ops of I come first in it.
  std::size_t skipped() const {
    return phase_ == Phase::weight_grad ? segments().backward_input.size() : 0;
  }

  Spot spot_of(Id id) const {
    const Value& value = graph_[id];
    if (const Place place = residency_.find(graph_.kind, value); place.known()) {
      const bool own_norms = value.name == "norms" && graph_.kind != LayerKind::step;
      return {own_norms ? Base::norms : base_of(place.region, value.owner != graph_.kind),
              place.offset};
    }
    if (value.kind == ValueKind::batch)
      return {Base::batch, plumbing_.batch.find(value.name)->offset};
    if (value.kind == ValueKind::cache) return {Base::cache, cache_offset(value)};
    if (graph_.kind == LayerKind::step) return {};
    if (id == graph_.carry_in) return {Base::x, 0};
    if (id == graph_.carry_out) return {Base::y, 0};
    if (id == graph_.d_carry_out) return {Base::dy, 0};
    if (id == graph_.d_carry_in) return {Base::dx, 0};
    if (id == graph_.side_in) return {Base::side_x, 0};
    if (id == graph_.side_out) return {Base::side_y, 0};
    if (id == graph_.d_side_out) return {Base::side_dy, 0};
    if (id == graph_.d_side_in) return {Base::side_dx, 0};
    const auto v = static_cast<std::size_t>(id);
    if (const std::int64_t at = segments().stash_offset[v]; at >= 0) return {Base::stash, at};
    const FrameLayout* const frame = this->frame();
    if (frame == nullptr || frame->offset[v] < 0) return {};
    return {Base::frame, frame->offset[v]};
  }

  // The values of the cache that come before in the layer's graph.
  std::int64_t cache_offset(const Value& wanted) const {
    std::int64_t offset = 0;
    for (const Value& value : graph_.values) {
      if (&value == &wanted) break;
      if (value.kind == ValueKind::cache)
        offset += align_up(value_bytes(value.type), blob_alignment);
    }
    return offset;
  }

  static std::int64_t rounded_bytes(const Value& value) {
    return align_up(value_bytes(value.type), tensor_alignment);
  }

  void add_freed(OpList& list, const FrameLayout& frame) const {
    for (std::size_t v = 0; v < graph_.values.size(); ++v) {
      const int op = frame.last_use[v] - static_cast<int>(skipped());
      if (frame.last_use[v] >= 0 && op >= 0 && op < static_cast<int>(list.ops.size()))
        list.freed.push_back({op, list.values[v], rounded_bytes(graph_.values[v])});
    }
  }

  // After W nobody reads this layer's stash, nor the gradients that came from above.
  void add_freed_after_backward(OpList& list) const {
    const int last = static_cast<int>(list.ops.size()) - 1;
    for (std::size_t v = 0; v < graph_.values.size(); ++v)
      if (segments().stash[v] || static_cast<Id>(v) == graph_.d_carry_out ||
          static_cast<Id>(v) == graph_.d_side_out)
        list.freed.push_back({last, list.values[v], rounded_bytes(graph_.values[v])});
  }

  const Plumbing& plumbing_;
  const Residency& residency_;
  const LayerGraph& graph_;
  Phase phase_;
  bool backward_, packs_;
};

}  // namespace

OpList make_list(const Plumbing& plumbing, const Residency& residency, LayerKind kind, Phase phase,
                 bool backward, bool packs) {
  return ListMaker(plumbing, residency, kind, phase, backward, packs).make();
}

BlobUses uses_of(const OpList& list) {
  BlobUses out;
  const auto note = [](BlobUse& use, Access access) {
    use.reads |= access == Access::read || access == Access::update;
    use.writes |= access != Access::read;
    use.adds |= access == Access::accumulate;
  };
  const auto of = [&](Base base) -> BlobUse* {
    switch (base) {
      case Base::weights:
        return &out.kinds[static_cast<std::size_t>(Kind::weights)];
      case Base::gradients:
        return &out.kinds[static_cast<std::size_t>(Kind::gradients)];
      case Base::packed:
        return &out.kinds[static_cast<std::size_t>(Kind::packed)];
      case Base::optimizer:
        return &out.kinds[static_cast<std::size_t>(Kind::optimizer)];
      case Base::lent_weights:
        return &out.lent[static_cast<std::size_t>(Kind::weights)];
      case Base::lent_gradients:
        return &out.lent[static_cast<std::size_t>(Kind::gradients)];
      default:
        return nullptr;
    }
  };
  for (const Op& op : list.ops)
    for_each_operand(op, [&](Id id, Access access) {
      const Base base = list.values[static_cast<std::size_t>(id)].base;
      if (BlobUse* const use = of(base)) note(*use, access);
      if (base == Base::derived)
        (access == Access::read ? out.reads_packed : out.writes_packed) = true;
      if (base == Base::lent_derived) out.reads_lent_packed = true;
    });
  // A list that reads what it has just packed itself needs no packing before it.
  if (out.writes_packed) out.reads_packed = false;
  return out;
}

bool reads_batch(const LayerGraph& graph, const std::vector<Op>& ops) {
  bool reads = false;
  for (const Op& op : ops)
    for_each_operand(op, [&](Id id, Access) { reads |= graph[id].kind == ValueKind::batch; });
  return reads;
}

}  // namespace sluice
