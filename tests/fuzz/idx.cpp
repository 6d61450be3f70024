// Any bytes as the index of a shard set, and as a file of raw ids: what is accepted can be read
// whole.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/shards.h"

namespace {

void write(const std::string& path, const void* data, std::size_t size) {
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
}

void read_all(const std::string& path) {
  try {
    const sluice::TokenFile file(path);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(file.tokens()));
    file.read(0, ids);
  } catch (const sluice::Error&) {
    return;  // said, not crashed
  }
}

// Eleven ids and a sidecar that says so: only the index is anybody's.
const std::string& folder() {
  static const std::string out = [] {
    std::string name = "/dev/shm/sluice-fuzz-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    const std::vector<std::uint16_t> ids = {97, 98, 99, 256, 256, 104, 101, 108, 108, 111, 256};
    write(name + "/set.bin", ids.data(), ids.size() * 2);
    const std::string sidecar =
        R"({"format":"sluice-tokens","version":1,"tokenizer":{"kind":"bytes","hash":"x","vocab":257,"end_of_text":256},)"
        R"("tokens":11,"documents":3,"text_bytes":8,"bin":{"bytes":22,"xxh3_128":"x"},"idx":{"bytes":94,"xxh3_128":"x"}})";
    write(name + "/set.json", sidecar.data(), sidecar.size());
    std::atexit([] { std::filesystem::remove_all(folder()); });
    return name;
  }();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  write(folder() + "/set.idx", data, size);
  read_all(folder() + "/set");
  write(folder() + "/raw.bin", data, size);
  read_all(folder() + "/raw.bin");
  return 0;
}
