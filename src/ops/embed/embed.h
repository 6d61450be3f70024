// Rows of a table by index: token and position embeddings.
#pragma once

#include "ops/op.h"

namespace sluice {

// y[b t :] = table[ids[b t] :].   ids i32 [B T], table [V D], y [B T D].
// An index outside the table is an Error naming it: batch data is input.
struct Embed {
  static constexpr const char* name = "embed";
  Id ids, table, y;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.ids, Access::read);
    visit(op.table, Access::read);
    visit(op.y, Access::write);
  }
};

// dtable[ids[b t] :] += dy[b t :], tokens in ascending order for every row, so that the sum has one
// order whatever the number of threads. The first micro-batch clears the table.
struct EmbedGrad {
  static constexpr const char* name = "embed_grad";
  Id ids, dy, dtable;
  template <class Self, class Visit>
  static void operands(Self& op, Visit visit) {
    visit(op.ids, Access::read);
    visit(op.dy, Access::read);
    visit(op.dtable, Access::accumulate);
  }
};

}  // namespace sluice
