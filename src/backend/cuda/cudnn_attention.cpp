#include "backend/cuda/cudnn_attention.h"

#include <algorithm>

#include "backend/cuda/cudnn_library.h"
#include "core/error.h"

namespace sluice {
namespace {

// One piece: of `sequences` from `first` on, `heads` of them from `head` on.
struct Piece {
  std::int64_t first = 0, sequences = 0, head = 0, heads = 0;
};

template <class F>
void for_each_piece(const LibraryAttention& a, F f) {
  const std::int64_t batch = a.shape.batch, heads = a.shape.heads;
  for (std::int64_t b = 0; b < batch; b += a.pieces.sequences)
    for (std::int64_t n = 0; n < heads; n += a.pieces.heads)
      f(Piece{b, std::min(a.pieces.sequences, batch - b), n, std::min(a.pieces.heads, heads - n)});
}

struct Part {
  CudnnCall call;
  CudnnPointers pointers = {};
};

Part part_of(const LibraryAttention& a, const Piece& piece) {
  Part out;
  out.call = {.kind = a.kind,
              .batch = piece.sequences,
              .heads = piece.heads,
              .time = a.shape.time,
              .head = a.shape.head,
              .scale = a.shape.scale};
  const auto put = [&](CudnnCall::Operand operand, const gpu::Heads& value) {
    out.call.token[operand] = value.token, out.call.sequence[operand] = value.batch;
    const std::int64_t numbers = piece.first * value.batch + piece.head * a.shape.head;
    out.pointers[operand] = static_cast<std::uint16_t*>(value.data) + numbers;  // bf16
  };
  put(CudnnCall::q, a.q), put(CudnnCall::k, a.k), put(CudnnCall::v, a.v), put(CudnnCall::y, a.y);
  if (a.kind != CudnnKind::forward)
    out.pointers[CudnnCall::lse] =
        a.lse + (piece.first * a.shape.heads + piece.head) * a.shape.time;
  if (a.kind == CudnnKind::forward || a.kind == CudnnKind::forward_lse) return out;
  put(CudnnCall::dy, a.dy), put(CudnnCall::dq, a.dq);
  put(CudnnCall::dk, a.dk), put(CudnnCall::dv, a.dv);
  return out;
}

}  // namespace

CudnnAttention::CudnnAttention(const std::string& file)
    : library_(load_cudnn(file)), version_(version_of(library_)) {}

CudnnGraph& CudnnAttention::graph_for(const CudnnCall& call, std::int64_t workspace) {
  const auto found = graphs_.find(call);
  if (found != graphs_.end()) return found->second;
  CudnnGraph graph(handle_, call);
  require(graph.refusal().empty(), [&] {
    return Error(Exit::usage,
                 {fmt::format("cuDNN {} has no attention for this shape", text_of_cudnn(version_)),
                  "plan.attention",
                  fmt::format("a kernel for {} sequences of {} tokens, {} heads of {}", call.batch,
                              call.time, call.heads, call.head),
                  graph.refusal(),
                  {own_attention}});
  });
  require(graph.workspace() <= workspace, [&] {
    return Error(Exit::usage,
                 {fmt::format("cuDNN {} wants more memory for attention than was planned",
                              text_of_cudnn(version_)),
                  "plan.attention",
                  fmt::format("at most {} bytes for {} sequences of {} tokens, {} heads of {}",
                              workspace, call.batch, call.time, call.heads, call.head),
                  fmt::format("{} bytes", graph.workspace()),
                  {install_cudnn(), own_attention}});
  });
  return graphs_.emplace(call, std::move(graph)).first->second;
}

void CudnnAttention::prepare(const LibraryAttention& a) {
  const auto workspace = static_cast<std::int64_t>(a.workspace.size());
  for_each_piece(a, [&](const Piece& piece) { graph_for(part_of(a, piece).call, workspace); });
}

void CudnnAttention::run(cudaStream_t stream, const LibraryAttention& a) {
  prepare(a);
  const auto workspace = static_cast<std::int64_t>(a.workspace.size());
  if (stream != stream_) handle_.use(stream);
  stream_ = stream;
  for_each_piece(a, [&](const Piece& piece) {
    const Part part = part_of(a, piece);
    graph_for(part.call, workspace).run(handle_, part.pointers, a.workspace.data());
  });
}

}  // namespace sluice
