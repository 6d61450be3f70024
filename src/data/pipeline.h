// Sources through many hands and out in their order: the threads read, cut and work, whichever is
// needed; the caller takes the pieces one after the other as if there were no threads.
//
// At most piece_budget() bytes of text are on their way at a time, or the one piece that is larger;
// at most four sources are open.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "data/pieces.h"

namespace sluice {

struct PipelineJob {
  std::size_t first = 0, sources = 0;  // the sources [first, sources)
  int threads = 1;
  std::function<std::unique_ptr<PieceReader>(std::size_t source)> open;
  std::function<void(Piece&, int thread)> work;  // any thread; thread in [0, threads)
  std::function<void(Piece&)> take;              // the calling thread
};

std::int64_t piece_budget(int threads);

// Returns when every piece was taken. What open(), a reader or work() throws is thrown here after
// all pieces before it were taken; what take() throws, at once.
void run_pipeline(const PipelineJob& job);

}  // namespace sluice
