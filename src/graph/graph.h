// A model as data: one graph per kind of layer.
//
// A LayerGraph holds a value table and lists of ops over it. Values say what they are (weight,
// batch, activation …), never where they lie. Every layer of a kind shares the same graph; what
// differs from layer to layer is only which memory the values are bound to.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/parametrization.h"
#include "ops/all.h"

namespace sluice {

// `block`: a whole one or, of blocks that are cut in two (graph/parts.h), the attention; `mlp`: the
// other part.
enum class LayerKind : std::uint8_t { embedding, block, mlp, head, step };
inline constexpr int layer_kinds = 5;
std::string_view name_of(LayerKind kind);
inline bool is_block(LayerKind kind) { return kind == LayerKind::block || kind == LayerKind::mlp; }
// What checkpoints and draws of random numbers call a layer of this kind, however blocks are cut.
inline LayerKind uncut(LayerKind kind) { return is_block(kind) ? LayerKind::block : kind; }

enum class ValueKind : std::uint8_t {
  weight,
  gradient,  // float32 accumulator of a weight
  packed,    // a gradient in the form in which it rests off the device
  state,     // what the optimizer keeps of a weight: remainder, moments, scales, average
  derived,   // remade from a weight at each update; never saved
  batch,     // ids, targets, weights, positions, starts, lengths
  global,    // short tables of the whole step: stats, norms, control, pending, results
  cache,     // keys and values of decoding
  carry,     // the running activation and its gradient between layers
  activation,
};
std::string_view name_of(ValueKind kind);

struct Value {
  std::string name;
  ValueType type;
  ValueKind kind = ValueKind::activation;
  // A value that lives in another layer (a tied weight in the embedding): which kind owns it. The
  // owner knows it under `owner_name`.
  LayerKind owner = LayerKind::block;
  std::string owner_name;
  bool frozen = false;  // a weight that never changes: nothing makes its gradient
};

struct Init {
  enum class Kind : std::uint8_t { zeros, ones, normal, truncated_normal };
  Kind kind = Kind::zeros;
  double std = 0;
};

// A trained tensor of one layer kind.
struct Parameter {
  std::string name;                           // of its weight value
  Id weight = no_value, gradient = no_value;  // a frozen one has no gradient and no state
  Id low = no_value, m = no_value, v = no_value, m_scale = no_value, v_scale = no_value;  // AdamW
  Id average = no_value;                                                                  // Ema
  std::vector<Role> roles;  // one, or one per part of the parts axis
  bool decays = false;      // matrices and embeddings
  bool frozen = false;      // never changes
  std::int64_t rows = 0;    // rows that exist; a vocabulary axis is padded beyond them in memory
  Init init;                // before the role's std multiplier
  std::int64_t count() const { return count_; }
  std::int64_t count_ = 0;  // elements without padding
};

struct LayerGraph {
  LayerKind kind = LayerKind::block;
  std::vector<Value> values;
  std::vector<Parameter> parameters;
  Id carry_in = no_value, carry_out = no_value;      // activation between layers
  Id d_carry_out = no_value, d_carry_in = no_value;  // its gradient, the other way
  // What goes beside it between the two parts of a block: GPT-J's norm, which both branches read.
  // The lower part goes on with `side_of`, of which the other one gets a copy.
  Id side_in = no_value, side_out = no_value, side_of = no_value;
  Id d_side_out = no_value, d_side_in = no_value;
  // Where a block may be cut: the ops of forward from here on read nothing of those before but
  // these two values; -1: nowhere.
  int cut = -1;
  Id cut_carry = no_value, cut_side = no_value;

  std::vector<Op> forward;
  std::vector<Op> input_grad;   // I
  std::vector<Op> weight_grad;  // W
  std::vector<Op> norm;         // after the last micro-batch
  std::vector<Op> packed_norm;  // the same where gradients rest packed, and their packing
  std::vector<Op> unpack;       // packed gradients, before the update
  std::vector<Op> update;       // AdamW, then derived weights
  std::vector<Op> derive;       // derived weights alone, after weights were loaded

  Id add_value(std::string name, ValueType type, ValueKind kind);
  Id find(std::string_view name) const;           // no_value when absent
  Id require_value(std::string_view name) const;  // throws when absent
  const Value& operator[](Id id) const { return values[static_cast<std::size_t>(id)]; }
  std::vector<ValueType> types() const;
  std::int64_t trained() const;  // parameters that are not frozen
};

// Shape of one micro-batch.
struct BatchShape {
  std::int64_t batch = 1;
  std::int64_t time = 1;
};

struct ModelGraphs {
  int layers = 0;          // number of blocks
  int parts = 1;           // layers that each block is: 1, or attention and MLP
  std::int64_t vocab = 0;  // rows of the vocabulary that exist
  BatchShape shape;
  LayerGraph embedding, block, mlp, head, step;  // mlp: of blocks that are cut

  LayerGraph& of(LayerKind kind);
  const LayerGraph& of(LayerKind kind) const;
  // The kinds of layers that own tensors, from the lowest up.
  std::span<const LayerKind> kinds() const;
  int copies(LayerKind kind) const { return is_block(kind) ? layers : 1; }  // layers of a kind
  int layer_count() const { return parts * layers + 2; }  // embedding, blocks, head
  LayerKind kind_of(int layer) const {
    if (layer == 0) return LayerKind::embedding;
    if (layer > parts * layers) return LayerKind::head;
    return (layer - 1) % parts == 0 ? LayerKind::block : LayerKind::mlp;
  }
  // The block that a layer is (part of), from 0. REQUIRES: is_block(kind_of(layer)).
  int block_of(int layer) const { return (layer - 1) / parts; }
  // The number that a layer has, or the layer that it is part of, where blocks are not cut: what
  // random numbers are drawn by.
  int uncut(int layer) const {
    return layer <= parts * layers ? (layer + parts - 1) / parts : layer - (parts - 1) * layers;
  }
  // "embedding", "block 3", "attention 3", "mlp 3", "head": what errors and listings call a layer;
  // and the same where blocks are not cut, as hashes call it.
  std::string layer_name(int layer) const;
  std::string uncut_name(int layer) const;
  std::string_view name_of(LayerKind kind) const;  // "block" or "attention"
  std::int64_t parameters() const;  // trained numbers, padding apart, a tied weight once
};

inline std::int64_t padded_vocab(std::int64_t vocab) { return (vocab + 127) / 128 * 128; }

}  // namespace sluice
