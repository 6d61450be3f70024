// A backend runs ops and owns memory of one device. It has no policy: what runs when, and where
// every value lies, is decided by the program.
//
// Threads: run() is called by one lane at a time (the compute lane); copy_within() with it;
// copy_in() and copy_out() by a lane each.
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <string_view>

#include "core/tensor.h"
#include "ops/all.h"

namespace sluice {

// What one op sees when it runs: its graph's values by id (absent ones are empty tensors), scratch
// memory of at least workspace_bytes(op), whether accumulators start anew, and which layer it is.
struct Frame {
  std::span<const Tensor> values;
  std::span<std::byte> workspace;
  bool first = true;
  int layer = 0;  // part of the key of random numbers

  const Tensor& operator[](Id id) const { return values[static_cast<std::size_t>(id)]; }
  bool has(Id id) const {
    return id != no_value && static_cast<bool>(values[static_cast<std::size_t>(id)]);
  }
};

class ProductTuner;

// The device failed: whatever it does from then on fails, too.
class DeviceError : public Error {
 public:
  using Error::Error;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  // Memory of the device, 4 KiB aligned, zeroed; throws Exit::memory. Lives until the backend dies.
  virtual std::byte* take(std::int64_t bytes) = 0;
  virtual void run(const Op& op, const Frame& frame) = 0;
  // Before the first run() of an op with such a frame: finds what a library has for it, so that
  // what cannot run is refused before anything does. Its values are not looked at.
  virtual void prepare(const Op&, const Frame&) {}
  // The same of host memory, from and to which copies are fast.
  virtual std::byte* take_host(std::int64_t bytes) = 0;
  // From host memory to the device, and back.
  virtual void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) = 0;
  virtual void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) = 0;
  // From one place of the device to another.
  virtual void copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;

  // What only a device of its own does otherwise.
  // Whether the host may read and write the device's memory in place.
  virtual bool host_sees() const { return true; }
  // run() and copy_within() may return before their work has ended; its results are then seen by
  // later work of these two alone. then() calls `done` once all that they were given so far has
  // ended, on any thread, in the order of its calls; `failed` says that it did not.
  using Done = void (*)(void* with, std::exception_ptr failed);
  virtual void then(Done done, void* with) { done(with, nullptr); }
  // Until it has ended; throws if it failed.
  virtual void finish() {}
  // Work that comes again: what run() and copy_within() are given between record() and recorded()
  // is not done but kept, under the number that is returned, and replay() enqueues it as a whole,
  // any number of times. A backend that keeps nothing says so. abandon(): instead of recorded().
  virtual bool records() const { return false; }
  virtual void record() {}
  virtual int recorded() { return -1; }
  virtual void abandon() {}
  virtual void replay(int) {}
  // Of a backend whose products a library runs; null otherwise.
  virtual ProductTuner* tuner() { return nullptr; }
  // For a trace: a look at the clock between what run() was given before and after it; and the
  // nanoseconds of the steady clock that it saw, once that work has ended.
  virtual std::int64_t stamp() { return steady_nanoseconds(); }
  virtual std::int64_t stamped(std::int64_t look) const { return look; }

 protected:
  static std::int64_t steady_nanoseconds() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace sluice
