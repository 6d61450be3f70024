#include "checkpoint/manifest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "core/file.h"
#include "core/hash.h"

namespace sluice {

namespace {

constexpr std::string_view format_name = "sluice-checkpoint";
constexpr int format_version = 1;
constexpr std::string_view hash_opening = ",\n \"manifest_xxh3_128\": \"";
constexpr std::string_view hash_closing = "\"\n}\n";
constexpr std::size_t hash_digits = 32;
constexpr std::size_t most_manifest_bytes = std::size_t{64} << 20;

Error manifest_error(std::string what, const std::string& file, std::string expected = {},
                     std::string found = {}) {
  return Error(Exit::input, {std::move(what), file, std::move(expected), std::move(found), {}});
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

// An open file for reading, closed at scope end. fd < 0: errno says why it cannot be opened.
struct ReadOnly {
  explicit ReadOnly(const std::filesystem::path& path)
      : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~ReadOnly() {
    if (fd >= 0) ::close(fd);
  }
  ReadOnly(const ReadOnly&) = delete;
  ReadOnly& operator=(const ReadOnly&) = delete;
  int fd;
};

// Hands the file's bytes to `take` in pieces. Returns 0 or an errno.
template <class Take>
int read_all(int fd, Take take) {
  constexpr std::size_t piece = std::size_t{1} << 20;
  const auto buffer = std::make_unique_for_overwrite<char[]>(piece);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.get(), piece);
    if (got == 0) return 0;
    if (got > 0) take(buffer.get(), static_cast<std::size_t>(got));
    if (got < 0 && errno != EINTR) return errno;
  }
}

Report unreadable(const std::filesystem::path& path, int error) {
  return {fmt::format("{} of a checkpoint cannot be read: {}", path.filename().string(),
                      std::strerror(error)),
          path.string(),
          {},
          {},
          {}};
}

// Empty `what`: the file is good.
Report check_file(const std::filesystem::path& path, const ManifestFile& file, CheckDepth depth) {
  const ReadOnly input(path);
  if (input.fd < 0 && errno == ENOENT) {
    return {fmt::format("{} of a checkpoint is missing", file.name),
            path.string(),
            fmt::format("{} bytes", file.size),
            "no file",
            {}};
  }
  struct stat status {};
  if (input.fd < 0 || ::fstat(input.fd, &status) != 0) return unreadable(path, errno);
  if (status.st_size != file.size) {
    return {fmt::format("{} of a checkpoint is {}", file.name,
                        status.st_size < file.size ? "truncated" : "too long"),
            path.string(),
            fmt::format("{} bytes", file.size),
            fmt::format("{} bytes", status.st_size),
            {}};
  }
  if (depth == CheckDepth::sizes) return {};
  Hasher128 hasher;
  const int error =
      read_all(input.fd, [&](const char* data, std::size_t bytes) { hasher.add(data, bytes); });
  if (error != 0) return unreadable(path, error);
  const std::string found = hasher.hex();
  if (found == file.hash) return {};
  return {fmt::format("{} of a checkpoint is damaged: its size is right, its contents are not",
                      file.name),
          path.string(),
          fmt::format("hash {}", file.hash),
          fmt::format("hash {}", found),
          {}};
}

Manifest read_manifest(const std::filesystem::path& path) {
  std::error_code ignored;
  require(std::filesystem::exists(path, ignored),
          [&] { return manifest_error("a checkpoint has no manifest", path.string()); });
  return parse_manifest(read_file(path.string(), most_manifest_bytes), path.string());
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format"] = format_name;
  json["version"] = format_version;
  json["step"] = manifest.step;
  json["files"] = nlohmann::ordered_json::array();
  for (const ManifestFile& file : manifest.files) {
    json["files"].push_back({{"name", file.name}, {"size", file.size}, {"xxh3_128", file.hash}});
  }
  json["run"] = nlohmann::ordered_json(manifest.run);
  std::string text = json.dump(1);
  text.resize(text.size() - 2);  // "\n}" moves behind the hash
  const std::string hash = hash128_hex(text.data(), text.size());
  return text.append(hash_opening).append(hash).append(hash_closing);
}

Manifest parse_manifest(std::string_view text, const std::string& file) {
  // The tail is compared byte for byte, so that no flipped bit in it can pass.
  const std::size_t tail = hash_opening.size() + hash_digits + hash_closing.size();
  const std::size_t body = text.size() < tail ? 0 : text.size() - tail;
  const std::string_view stored =
      text.substr(std::min(text.size(), body + hash_opening.size())).substr(0, hash_digits);
  require(text.size() >= tail && text.substr(body).starts_with(hash_opening) &&
              text.ends_with(hash_closing),
          [&] { return manifest_error("a checkpoint's manifest is cut off", file); });
  const std::string found = hash128_hex(text.data(), body);
  require(found == stored, [&] {
    return manifest_error("a checkpoint's manifest is damaged", file,
                          fmt::format("hash {}", stored), fmt::format("hash {}", found));
  });
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    const auto version = json.at("version").get<std::int64_t>();
    require(json.at("format") == format_name && version == format_version, [&] {
      return manifest_error("a checkpoint is of a version that this program does not know", file,
                            fmt::format("version {}", format_version),
                            fmt::format("version {}", version));
    });
    Manifest out{json.at("step").get<std::int64_t>(), {}, json.at("run")};
    for (const nlohmann::json& entry : json.at("files")) {
      out.files.push_back({entry.at("name").get<std::string>(),
                           entry.at("size").get<std::int64_t>(),
                           entry.at("xxh3_128").get<std::string>()});
      require(is_plain_name(out.files.back().name), [&] {
        return manifest_error("a checkpoint's manifest names a file outside its folder", file,
                              "a plain name", out.files.back().name);
      });
    }
    return out;
  } catch (const nlohmann::json::exception& e) {
    throw manifest_error(fmt::format("a checkpoint's manifest is malformed: {}", e.what()), file);
  }
}

Verification verify_checkpoint(const std::filesystem::path& folder, CheckDepth depth) {
  Verification out;
  const std::filesystem::path path = folder / "manifest.json";
  try {
    out.manifest = read_manifest(path);
  } catch (const Error& e) {
    out.problems.push_back(e.report());
    return out;
  }
  const std::int64_t named = step_of_folder(folder.filename().string());
  if (named >= 0 && named != out.manifest.step) {
    out.problems.push_back({"a checkpoint's folder is named after another step",
                            path.string(),
                            fmt::format("step {}", named),
                            fmt::format("step {}", out.manifest.step),
                            {}});
  }
  for (const ManifestFile& file : out.manifest.files) {
    Report report = check_file(folder / file.name, file, depth);
    if (!report.what.empty()) out.problems.push_back(std::move(report));
  }
  return out;
}

std::string folder_of_step(std::int64_t step) { return fmt::format("step-{:08}", step); }

std::int64_t step_of_folder(std::string_view name) {
  if (!name.starts_with("step-")) return -1;
  const std::string_view digits = name.substr(5);
  std::int64_t step = -1;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (status != std::errc{} || end != digits.data() + digits.size() || step < 0) return -1;
  return folder_of_step(step) == name ? step : -1;
}

}  // namespace sluice
