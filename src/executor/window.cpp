#include "executor/window.h"

#include <algorithm>

namespace sluice {

Window::Window(ScratchFile& file, std::byte* slot, std::int64_t bytes)
    : file_(&file), slot_(slot), pages_(static_cast<std::size_t>(bytes / ScratchFile::page)) {}

template <class Visit>
void Window::for_runs(std::size_t first, std::size_t last, Page state, Visit visit) {
  while (first < last) {
    std::size_t end = first;
    while (end < last && pages_[end] == state) ++end;
    if (end > first)
      visit(static_cast<std::int64_t>(first) * ScratchFile::page,
            static_cast<std::int64_t>(end - first) * ScratchFile::page);
    first = end + 1;
  }
}

std::byte* Window::see(std::int64_t blob, std::int64_t offset, std::int64_t bytes, bool changes) {
  if (blob != blob_) close();
  blob_ = blob;
  const auto first = static_cast<std::size_t>(offset / ScratchFile::page);
  const auto last =
      static_cast<std::size_t>((offset + bytes + ScratchFile::page - 1) / ScratchFile::page);
  for_runs(first, last, Page::absent, [&](std::int64_t from, std::int64_t count) {
    file_->read(slot_ + from, blob + from, count);
  });
  for (std::size_t page = first; page < last; ++page)
    if (changes || pages_[page] == Page::absent)
      pages_[page] = changes ? Page::changed : Page::here;
  return slot_ + offset;
}

void Window::close() {
  if (blob_ < 0) return;
  for_runs(0, pages_.size(), Page::changed, [&](std::int64_t from, std::int64_t count) {
    file_->write(slot_ + from, blob_ + from, count);
  });
  std::fill(pages_.begin(), pages_.end(), Page::absent);
  blob_ = -1;
}

}  // namespace sluice
