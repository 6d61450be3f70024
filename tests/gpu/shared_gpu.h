// The GPU that the tests of this program share: one backend, made when it is first asked for, and
// gone after the last test. What it takes stays taken: tests use little, or use it again.
#pragma once

#include "device_frame.h"

namespace sluice {

CudaBackend& shared_gpu();
// Room for the frames of ops, on it.
DeviceRoom& shared_room();

// A frame of the case after its op ran there.
inline TestFrame result_of(const OpCase& one) {
  TestFrame frame(one, {}, true);
  shared_room().run(one.op, frame);
  return frame;
}

}  // namespace sluice
