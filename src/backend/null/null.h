// The backend that owns no memory and computes nothing: it lets an executor walk the program of a
// model that no machine here could hold, and counts what it was asked to do.
//
// Threads: as Backend says; the counts are read when nothing runs.
#pragma once

#include "backend/backend.h"

namespace sluice {

class NullBackend final : public Backend {
 public:
  std::string_view name() const override { return "null"; }
  std::byte* take(std::int64_t bytes) override;  // nullptr: nothing may be read or written
  void run(const Op& op, const Frame& frame) override;
  std::byte* take_host(std::int64_t bytes) override;
  void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override;
  void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override;
  void copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) override;

  std::int64_t ops() const { return ops_; }                  // run() calls
  std::int64_t bytes_taken() const { return bytes_taken_; }  // asked of take()
  std::int64_t host_bytes_taken() const { return host_bytes_taken_; }
  std::int64_t bytes_copied() const { return bytes_copied_; }  // asked of copy_in()
  std::int64_t bytes_copied_out() const { return bytes_copied_out_; }

 private:
  std::int64_t ops_ = 0;
  std::int64_t bytes_taken_ = 0;
  std::int64_t host_bytes_taken_ = 0;
  std::int64_t bytes_copied_ = 0;      // by one lane
  std::int64_t bytes_copied_out_ = 0;  // by another
};

}  // namespace sluice
