#include "planner/costs.h"

#include <algorithm>

namespace sluice {
namespace {

std::string_view type_name(DType type) { return type == DType::bf16 ? "bf16" : "float32"; }

struct Product {
  std::int64_t m = 0, k = 0, n = 0, count = 0;  // count 0: none
  Id of = no_value;                             // an operand whose type is the product's
};

const Shape& shape(Types types, Id id) { return types[static_cast<std::size_t>(id)].shape; }

Product forward(Types types, Id x, Id y) {
  return {tokens(shape(types, x)), features(shape(types, x)), features(shape(types, y)), 1, x};
}

struct ProductOf {
  Types types;
  Product operator()(const Linear& op) const { return forward(types, op.x, op.y); }
  Product operator()(const LinearGelu& op) const { return forward(types, op.x, op.h); }
  Product operator()(const LinearGradInput& op) const { return forward(types, op.dy, op.dx); }
  Product operator()(const LinearGeluGrad& op) const { return forward(types, op.dy, op.dh); }
  Product operator()(const LinearGradWeight& op) const {
    if (op.dw == no_value) return {};
    return {features(shape(types, op.x)), tokens(shape(types, op.x)), features(shape(types, op.dy)),
            1, op.x};
  }
  // Chunks of logits: forward and, when it trains, both gradients; alike in size.
  Product operator()(const HeadLoss& op) const {
    const std::int64_t all = tokens(shape(types, op.x)), width = features(shape(types, op.x));
    const std::int64_t chunk = std::min(op.chunk, all);
    const std::int64_t products = 1 + (op.dx != no_value) + (op.dw != no_value);
    return {chunk, width, shape(types, op.w).count() / width, products * all / chunk, op.x};
  }
  template <class Other>
  Product operator()(const Other&) const {
    return {};
  }
};

std::int64_t at_least_one(double number) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(number));
}

// The types of its operands in their order, those that repeat said once.
std::string named_class(const Op& op, Types types) {
  std::string out = name_of(op);
  std::string_view last;
  for_each_operand(op, [&](Id id, Access) {
    const std::string_view type = name_of(types[static_cast<std::size_t>(id)].dtype);
    if (type != last) (out += ' ') += type;
    last = type;
  });
  return out;
}

double flops_of(const Product& p) {
  return 2.0 * static_cast<double>(p.m) * static_cast<double>(p.k) * static_cast<double>(p.n) *
         static_cast<double>(p.count);
}

}  // namespace

OpClass class_of(const Op& op, Types types) {
  const Cost cost = sluice::cost(op, types);
  OpClass out{named_class(op, types), {1, 1, 1}, cost.flops};
  const auto attention = [&](const Shape& y) {
    out.sizes[0] = y.size(Axis::time);
    out.sizes[1] = y[y.rank() - 1].size;
  };
  if (const Product p = std::visit(ProductOf{types}, op); p.count > 0) {
    out.sizes[0] = p.m, out.sizes[1] = p.k, out.sizes[2] = p.n;
    out.work = flops_of(p);
  } else if (const auto* forward = std::get_if<Attention>(&op)) {
    attention(shape(types, forward->y));
  } else if (const auto* gradient = std::get_if<AttentionGrad>(&op)) {
    attention(shape(types, gradient->y));
  } else {
    out.work = cost.read_bytes + cost.write_bytes;
    out.sizes[0] = at_least_one(out.work);
  }
  return out;
}

double seconds_of(const Machine& machine, const Op& op, Types types) {
  if (!machine.ops.empty()) {
    const OpClass what = class_of(op, types);
    if (const double rate = op_rate(machine, what.name, what.sizes); rate > 0)
      return machine.launch.value + what.work / rate;
  }
  const Cost cost = sluice::cost(op, types);
  const double bytes = cost.read_bytes + cost.write_bytes;
  const double moving = machine.memory_rate.value > 0 ? bytes / machine.memory_rate.value : 0;
  double rate = 0, flops = cost.flops;
  if (const Product p = std::visit(ProductOf{types}, op); p.count > 0) {
    const auto type = types[static_cast<std::size_t>(p.of)].dtype;
    rate = gemm_rate(machine, type_name(type), p.m, p.k, p.n);
    flops = flops_of(p);
  } else if (const auto* attention = std::get_if<Attention>(&op)) {
    const Shape& y = shape(types, attention->y);
    rate = attention_rate(machine, "forward", y[y.rank() - 1].size, y.size(Axis::time));
  } else if (const auto* gradient = std::get_if<AttentionGrad>(&op)) {
    const Shape& y = shape(types, gradient->y);
    rate = attention_rate(machine, "backward", y[y.rank() - 1].size, y.size(Axis::time));
  }
  return machine.launch.value + std::max(moving, rate > 0 ? flops / rate : 0);
}

double seconds_of(const Machine& machine, const OpList& list, const LayerGraph& graph) {
  const std::vector<ValueType> types = graph.types();
  double sum = 0;
  for (const Op& op : list.ops) sum += seconds_of(machine, op, types);
  return sum;
}

Way way_of(Lane lane) {
  switch (lane) {
    case Lane::in:
      return Way::host_in;
    case Lane::out:
      return Way::host_out;
    case Lane::disk_read:
      return Way::disk_in;
    case Lane::disk_write:
      return Way::disk_out;
    case Lane::compute:
    case Lane::count:
      break;
  }
  return Way::none;
}

double rate_of(const Machine& machine, Way way) {
  const double rates[] = {0, machine.host_in.value, machine.host_out.value, machine.disk_in.value,
                          machine.disk_out.value};
  return rates[static_cast<std::size_t>(way)];
}

double share_of(const Machine& machine, Way way) {
  if (way == Way::none) return 1;
  const bool host = way == Way::host_in || way == Way::host_out;
  const double both = host ? machine.host_both.value : machine.disk_both.value;
  const double alone = host ? machine.host_in.value + machine.host_out.value
                            : machine.disk_in.value + machine.disk_out.value;
  return both > 0 && alone > both ? both / alone : 1;
}

double beside_share(const Machine& machine, Way way) {
  const bool host = way == Way::host_in || way == Way::host_out;
  if (!host || machine.host_beside.value <= 0) return 1;
  return std::min(1.0, machine.host_beside.value / rate_of(machine, way));
}

double compute_share(const Machine& machine, double copied_per_second) {
  if (machine.slowing_rate.value <= 0) return 1;
  const double part = machine.slowing_part.value * copied_per_second / machine.slowing_rate.value;
  return std::max(0.1, 1 - part);
}

}  // namespace sluice
