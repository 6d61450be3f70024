// A backend around another one: passes everything on. What derives from it changes what it wants.
#pragma once

#include "backend/backend.h"

namespace sluice {

class AroundBackend : public Backend {
 public:
  explicit AroundBackend(Backend& below) : below_(below) {}  // outlives this
  std::string_view name() const override { return below_.name(); }
  std::byte* take(std::int64_t bytes) override { return below_.take(bytes); }
  void run(const Op& op, const Frame& frame) override { below_.run(op, frame); }
  std::byte* take_host(std::int64_t bytes) override { return below_.take_host(bytes); }
  void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override {
    below_.copy_in(device, host, bytes);
  }
  void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override {
    below_.copy_out(host, device, bytes);
  }
  void copy_within(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    below_.copy_within(to, from, bytes);
  }
  bool host_sees() const override { return below_.host_sees(); }
  void then(Done done, void* with) override { below_.then(done, with); }
  void finish() override { below_.finish(); }
  void prepare(const Op& op, const Frame& frame) override { below_.prepare(op, frame); }
  // What is recorded is seen once: who wants to see every op has nothing recorded.
  ProductTuner* tuner() override { return below_.tuner(); }
  std::int64_t stamp() override { return below_.stamp(); }
  std::int64_t stamped(std::int64_t look) const override { return below_.stamped(look); }

 private:
  Backend& below_;
};

}  // namespace sluice
