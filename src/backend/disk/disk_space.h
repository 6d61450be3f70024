// How much room a folder's disk has. A folder that is not there yet will lie where the nearest one
// above it that is lies. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

// Bytes that this user may still write; the largest number when nobody knows.
std::int64_t free_disk_bytes(const std::string& folder);
// Whether both lie on one file system.
bool same_disk(const std::string& a, const std::string& b);

}  // namespace sluice
