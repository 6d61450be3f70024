// Names for a profiler: a range around what is put on the stream, seen by Nsight and nobody else.
// Header-only; without a profiler a call tests one pointer. Nothing where the toolkit lacks NVTX.
#pragma once

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define SLUICE_HAS_NVTX 1
#endif

namespace sluice {

class ProfilerRange {
 public:
#ifdef SLUICE_HAS_NVTX
  explicit ProfilerRange(const char* name) { nvtxRangePushA(name); }
  ~ProfilerRange() { nvtxRangePop(); }
#else
  explicit ProfilerRange(const char*) {}
#endif
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace sluice
