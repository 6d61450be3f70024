// What the host sees of a device whose memory it cannot touch, between runs: copies of tensors,
// each at its own offset in a stretch of addresses as long as the arena. Only pages of what was
// asked for exist. What somebody may have changed goes back when two other layers were asked for
// since, or at close(). One thread.
#pragma once

#include <array>
#include <vector>

#include "backend/backend.h"

namespace sluice {

class Mirror {
 public:
  // `arena` on the device; all outlive this. Throws Exit::memory when addresses run out.
  Mirror(Backend& backend, std::byte* arena, std::int64_t bytes);
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  static constexpr int no_layer = -1;  // of what belongs to none: it stays until close()

  // Bytes [offset, offset + bytes) of the arena, as they were when they were first asked for since
  // the last close(); what belongs to no layer as it is now, unless it was asked for to be changed.
  // Unless `access` is read, they may be written to; where it is write, all of them will be, and
  // they are not what they were.
  std::byte* see(int layer, std::int64_t offset, std::int64_t bytes, Access access);
  void close();
  // Room for the same offset in a second stretch, for who looks on while a run goes on.
  std::byte* observed(std::int64_t offset);

 private:
  struct Seen {
    std::int64_t offset, bytes;
    bool changes;
  };
  struct Layer {
    int layer = no_layer;
    std::vector<Seen> seen;
  };
  std::byte* reserve() const;
  Layer& of(int layer);
  void give_back(Layer& layer);

  Backend& backend_;
  std::byte* arena_;
  std::int64_t bytes_;
  std::byte* copies_;
  std::byte* observed_ = nullptr;
  Layer globals_;
  std::array<Layer, 2> layers_;  // the newest one first
};

}  // namespace sluice
