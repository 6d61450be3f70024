#include "graph/fusion.h"

#include <optional>

namespace sluice {
namespace {

int readers(std::span<const Op> ops, Id value) {
  int count = 0;
  for (const Op& op : ops)
    for_each_operand(
        op, [&](Id id, Access access) { count += id == value && access != Access::write ? 1 : 0; });
  return count;
}

std::optional<Op> residual_norm(const Op& first, const Op& second) {
  const auto* add = std::get_if<Add>(&first);
  const auto* norm = std::get_if<LayerNorm>(&second);
  if (add == nullptr || norm == nullptr || norm->x != add->y) return {};
  return ResidualNorm{add->a,  add->b,     add->y,     norm->gain,   norm->bias,
                      norm->y, norm->mean, norm->rstd, add->scale_b, norm->eps};
}

std::optional<Op> linear_gelu(const Op& first, const Op& second) {
  const auto* linear = std::get_if<Linear>(&first);
  const auto* gelu = std::get_if<Gelu>(&second);
  if (linear == nullptr || gelu == nullptr || gelu->x != linear->y) return {};
  return LinearGelu{.x = linear->x,
                    .w = linear->w,
                    .bias = linear->bias,
                    .h = linear->y,
                    .y = gelu->y,
                    .out_in = linear->out_in,
                    .scale = linear->scale,
                    .form = gelu->form,
                    .packed = linear->packed,
                    .in_product = gelu->in_product};
}

std::optional<Op> linear_gelu_grad(const Op& first, const Op& second) {
  const auto* linear = std::get_if<LinearGradInput>(&first);
  const auto* gelu = std::get_if<GeluGrad>(&second);
  if (linear == nullptr || gelu == nullptr || gelu->dy != linear->dx) return {};
  return LinearGeluGrad{.dy = linear->dy,
                        .w = linear->w,
                        .h = gelu->x,
                        .dh = gelu->dx,
                        .out_in = linear->out_in,
                        .scale = linear->scale,
                        .form = gelu->form,
                        .packed = linear->packed};
}

std::optional<Op> norm_grad_add(const Op& first, const Op& second) {
  const auto* norm = std::get_if<LayerNormGradInput>(&first);
  const auto* add = std::get_if<Add>(&second);
  if (norm == nullptr || add == nullptr || norm->plus != no_value) return {};
  if (add->b != norm->dx || add->a == norm->dx || add->scale_b != 1) return {};
  LayerNormGradInput both = *norm;
  both.plus = add->a, both.dx = add->y;
  return both;
}

// The value that `first` makes and a fusion of these two would not.
Id between(const Op& first) {
  if (const auto* norm = std::get_if<LayerNormGradInput>(&first)) return norm->dx;
  return std::get<LinearGradInput>(first).dx;
}

}  // namespace

std::vector<Op> fuse(const std::vector<Op>& ops, std::span<const Op> later) {
  const auto fused = [&](const Op& first, const Op& second) -> std::optional<Op> {
    if (auto one = residual_norm(first, second)) return one;
    if (auto one = linear_gelu(first, second)) return one;
    auto one = linear_gelu_grad(first, second);
    if (!one) one = norm_grad_add(first, second);
    if (!one) return {};
    const Id lost = between(first);
    return readers(ops, lost) == 1 && readers(later, lost) == 0 ? one : std::nullopt;
  };
  std::vector<Op> out;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto one = i + 1 < ops.size() ? fused(ops[i], ops[i + 1]) : std::nullopt;
    out.push_back(one ? *one : ops[i]);
    if (one) ++i;
  }
  return out;
}

std::string fusion_set(bool epilogues, bool gelu_in_product) {
  std::string out = "residual_norm linear_gelu linear_gelu_grad norm_grad_add";
  if (epilogues) out += " bias_epilogue gelu_slope_epilogue";
  if (gelu_in_product) out += " gelu_epilogue";
  return out;
}

}  // namespace sluice
