#include "shared_gpu.h"

#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "support/processors.h"

namespace sluice {
namespace {

struct Shared : testing::Environment {
  std::unique_ptr<CudaBackend> gpu;
  std::unique_ptr<DeviceRoom> room;
  void TearDown() override { room.reset(), gpu.reset(); }
};

Shared& shared() {
  static auto* const one = static_cast<Shared*>(testing::AddGlobalTestEnvironment(new Shared));
  return *one;
}

}  // namespace

CudaBackend& shared_gpu() {
  Shared& all = shared();
  if (!all.gpu) all.gpu = std::make_unique<CudaBackend>((cuda_device(0), 0));
  return *all.gpu;
}

DeviceRoom& shared_room() {
  Shared& all = shared();
  if (!all.room) all.room = std::make_unique<DeviceRoom>(shared_gpu(), std::int64_t{512} << 20);
  return *all.room;
}

namespace testing_support {

std::vector<Processor> processors() { return {{.device = &shared_gpu()}}; }
Processor best_processor() { return processors().front(); }
std::unique_ptr<Backend> own_backend() { return std::make_unique<CudaBackend>(0); }

}  // namespace testing_support
}  // namespace sluice
