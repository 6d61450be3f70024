#include "train/roof.h"

#include <algorithm>

#include "models/published.h"

namespace sluice {
namespace {

const Shape& shape(Types types, Id id) { return types[static_cast<std::size_t>(id)].shape; }

// Adds the products of an op to a list.
class Products {
 public:
  Products(Types types, std::vector<LooseOp>& out) : types_(types), out_(out) {}

  void operator()(const Linear& op) { add(forward(op, op.y)); }
  void operator()(const LinearGelu& op) { add(forward(op, op.h)); }
  void operator()(const LinearGradInput& op) { add(input(op, op.dx)); }
  void operator()(const LinearGeluGrad& op) { add(input(op, op.dh)); }
  void operator()(const LinearGradWeight& op) {
    if (op.dw == no_value) return;
    LooseOp one = loose();
    one.op = LinearGradWeight{
        .x = op.x, .dy = op.dy, .dw = op.dw, .dbias = no_value, .out_in = op.out_in};
    out_.push_back(std::move(one));
  }
  // Logits, and when it trains both gradients, a chunk of tokens at a time.
  void operator()(const HeadLoss& op) {
    const std::int64_t all = tokens(shape(types_, op.x)), width = features(shape(types_, op.x));
    std::int64_t vocab = shape(types_, op.w).count() / width;
    // Rows of logits begin at multiples of what a product likes, where nothing is packed.
    if (op.packed == no_value) vocab = (vocab + 63) / 64 * 64;
    const std::int64_t chunk = std::min(op.chunk, all);
    const DType type = types_[static_cast<std::size_t>(op.x)].dtype;
    const auto of = [&](Axis axis, std::int64_t size) {
      return Shape{{Axis::batch, 1}, {Axis::time, chunk}, {axis, size}};
    };
    LooseOp one;
    one.types = {{type, of(Axis::model, width)},
                 {type, {{Axis::vocab, vocab}, {Axis::model, width}}},
                 {type, of(Axis::vocab, vocab)},
                 {DType::f32, {{Axis::vocab, vocab}, {Axis::model, width}}}};
    const auto packed = [&](Id id) {
      if (id == no_value) return no_value;
      one.types.push_back(types_[static_cast<std::size_t>(id)]);
      return static_cast<Id>(one.types.size()) - 1;
    };
    const Id forth = packed(op.packed), back = packed(op.packed_t);
    for (std::int64_t done = 0; done < all; done += chunk) {
      one.op = Linear{.x = 0, .w = 1, .bias = no_value, .y = 2, .out_in = true, .packed = forth};
      out_.push_back(one);
      one.op = LinearGradInput{.dy = 2, .w = 1, .dx = 0, .out_in = true, .packed = back};
      if (op.dx != no_value) out_.push_back(one);
      one.op = LinearGradWeight{.x = 0, .dy = 2, .dw = 3, .dbias = no_value, .out_in = true};
      if (op.dw != no_value) out_.push_back(one);
    }
  }
  template <class Other>
  void operator()(const Other&) {}

 private:
  LooseOp loose() const { return {{}, {types_.begin(), types_.end()}}; }
  template <class OneOp>
  LooseOp forward(const OneOp& op, Id y) const {
    LooseOp one = loose();
    one.op = Linear{
        .x = op.x, .w = op.w, .bias = no_value, .y = y, .out_in = op.out_in, .packed = op.packed};
    return one;
  }
  template <class OneOp>
  LooseOp input(const OneOp& op, Id dx) const {
    LooseOp one = loose();
    one.op =
        LinearGradInput{.dy = op.dy, .w = op.w, .dx = dx, .out_in = op.out_in, .packed = op.packed};
    return one;
  }
  void add(LooseOp one) { out_.push_back(std::move(one)); }

  Types types_;
  std::vector<LooseOp>& out_;
};

// Calls use(op, types of its graph) for every op of the compute lane, in order.
template <class Use>
void for_each_op(const Program& program, Use use) {
  std::array<std::vector<ValueType>, layer_kinds> types;
  for (int kind = 0; kind < layer_kinds; ++kind)
    types[static_cast<std::size_t>(kind)] = program.model->of(static_cast<LayerKind>(kind)).types();
  for (const Action& action : program.actions) {
    if (action.copies()) continue;
    const OpList& list = program.list_of(action);
    for (const Op& op : list.ops) use(op, types[static_cast<std::size_t>(list.kind)]);
  }
}

}  // namespace

std::vector<LooseOp> products_of(const Program& program) {
  std::vector<LooseOp> out;
  for_each_op(program, [&](const Op& op, const std::vector<ValueType>& types) {
    std::visit(Products(types, out), op);
  });
  return out;
}

std::vector<Repeated> attentions_of(const Program& program) {
  std::vector<Repeated> out;
  std::vector<const Op*> seen;
  for_each_op(program, [&](const Op& op, const std::vector<ValueType>& types) {
    if (!std::holds_alternative<Attention>(op) && !std::holds_alternative<AttentionGrad>(op))
      return;
    const auto found = std::find(seen.begin(), seen.end(), &op);
    if (found != seen.end()) {
      ++out[static_cast<std::size_t>(found - seen.begin())].count;
      return;
    }
    seen.push_back(&op);
    LooseOp one{op, types};
    // Nothing is dropped here: its random numbers are no part of the roof.
    std::visit(
        [](auto& a) {
          using A = std::decay_t<decltype(a)>;
          if constexpr (std::is_same_v<A, Attention> || std::is_same_v<A, AttentionGrad>)
            a.control = no_value, a.dropout = {};
        },
        one.op);
    out.push_back({std::move(one), 1});
  });
  return out;
}

double elementwise_bytes(const ModelConfig& model, const Plan& plan) {
  const bool epilogue = plan.numerics.gelu_in_product && plan.numerics.precision == DType::bf16 &&
                        model.gelu_form() == GeluForm::tanh;
  return static_cast<double>(model.layers * model.width) * (epilogue ? 42 : 82) +
         4.0 * static_cast<double>(model.vocab);
}

double update_bytes(const ModelConfig& model, const Plan& plan) {
  return static_cast<double>(parameters_of(model)) *
         (32 + 8.0 * static_cast<double>(plan.micro_batches - 1));
}

Roof measure_roof(Ceilings& ceilings, const Program& steady, const ModelConfig& model,
                  const Plan& plan, double seconds) {
  Roof out;
  const std::vector<LooseOp> products = products_of(steady);
  const std::vector<Repeated> attentions = attentions_of(steady);
  const auto need = [&](const LooseOp& op) {
    require(ceilings.fits(op), [&] {
      return Error(Exit::memory, {fmt::format("{} is too large to be measured", name_of(op.op)),
                                  {},
                                  {},
                                  {},
                                  {"a smaller plan.micro_batch", "--no-roof"}});
    });
  };
  for (const LooseOp& op : products) {
    need(op);
    out.product_flops += cost(op.op, op.types).flops;
  }
  ceilings.tune(products);
  out.products = ceilings.run(products, seconds);
  out.measured = seconds;
  for (const Repeated& one : attentions) {
    need(one.op);
    out.attention += static_cast<double>(one.count) * ceilings.run({one.op}, 0.1 * seconds);
    out.attention_flops += static_cast<double>(one.count) * cost(one.op.op, one.op.types).flops;
  }
  const double tokens =
      static_cast<double>(plan.micro_batches * plan.micro_batch * steady.model->shape.time);
  out.memory_rate = ceilings.copy(0.1 * seconds);
  const double elementwise = tokens * elementwise_bytes(model, plan);
  const double update = update_bytes(model, plan);
  out.elementwise = elementwise / out.memory_rate;
  out.update = update / out.memory_rate;
  out.bytes = elementwise + update;
  return out;
}

}  // namespace sluice
