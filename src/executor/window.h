// What the host sees of a blob that is at home on disk, between runs: the blob as it would lie in
// memory, in a staging slot that no run needs meanwhile. Pages come when somebody asks for them,
// and those that somebody may have changed go back when the next blob is looked at. No memory of
// its own but a byte a page. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/disk/scratch_file.h"

namespace sluice {

class Window {
 public:
  Window() = default;
  // `slot` has room for `bytes`, in whole pages.
  Window(ScratchFile& file, std::byte* slot, std::int64_t bytes);

  // Bytes [offset, offset + bytes) of the blob that begins at `blob` of the file; valid until
  // another blob is seen, or close(). `changes`: they may be written to.
  std::byte* see(std::int64_t blob, std::int64_t offset, std::int64_t bytes, bool changes);
  void close();  // brings changes home

 private:
  enum class Page : std::uint8_t { absent, here, changed };
  // visit(first, count) for each run of pages in [first, last) that are `state`.
  template <class Visit>
  void for_runs(std::size_t first, std::size_t last, Page state, Visit visit);

  ScratchFile* file_ = nullptr;
  std::byte* slot_ = nullptr;
  std::vector<Page> pages_;
  std::int64_t blob_ = -1;  // -1: none
};

}  // namespace sluice
