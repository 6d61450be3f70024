#include "backend/disk/disk_space.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <filesystem>
#include <limits>

namespace sluice {
namespace {

std::filesystem::path nearest_there(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::path there = std::filesystem::absolute(folder, ignored);
  while (!std::filesystem::exists(there, ignored) && there.has_relative_path())
    there = there.parent_path();
  return there;
}

}  // namespace

std::int64_t free_disk_bytes(const std::string& folder) {
  struct statvfs space {};
  if (::statvfs(nearest_there(folder).c_str(), &space) != 0)
    return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(space.f_bavail) * static_cast<std::int64_t>(space.f_frsize);
}

bool same_disk(const std::string& a, const std::string& b) {
  struct stat of_a {
  }, of_b{};
  return ::stat(nearest_there(a).c_str(), &of_a) == 0 &&
         ::stat(nearest_there(b).c_str(), &of_b) == 0 && of_a.st_dev == of_b.st_dev;
}

}  // namespace sluice
