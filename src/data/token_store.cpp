#include "data/token_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int journal_version = 1;
constexpr std::int64_t between_syncs = 3000;  // milliseconds

std::int64_t milliseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

Error cannot_write(const std::string& path, int number) {
  Error error = disk_error("write", path, number);
  error.report().where = path;
  error.report().expected = "room on that disk, and a folder that this user may write to";
  error.report().tries = {"the same command again: it goes on where this one stopped"};
  return error;
}

std::string hex_of(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

std::string bytes_of(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return out;
}

json to_json(const ReadPlace& place) {
  json out = {{"offset", place.point.offset},
              {"bits", place.point.bits},
              {"point", place.point.unpacked},
              {"unpacked", place.unpacked},
              {"line", place.line}};
  if (place.point.window) out["window"] = hex_of(*place.point.window);
  return out;
}

ReadPlace place_of(const json& from) {
  ReadPlace out;
  out.point.offset = from.at("offset");
  out.point.bits = from.at("bits");
  out.point.unpacked = from.at("point");
  if (from.contains("window"))
    out.point.window =
        std::make_shared<std::string>(bytes_of(from.at("window").get<std::string>()));
  out.unpacked = from.at("unpacked");
  out.line = from.at("line");
  return out;
}

}  // namespace

// A file that grows at its end.
class TokenStore::File {
 public:
  explicit File(std::string path)
      : path_(std::move(path)), file_(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    require(file_ >= 0, [&] { return cannot_write(path_, errno); });
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(file_); }

  void append(std::span<const std::byte> bytes, Faults* faults) {
    while (!bytes.empty()) {
      const Faults::Effect effect = faults != nullptr ? faults->at("save.write") : Faults::Effect{};
      const std::size_t part = effect.shorten ? (bytes.size() + 1) / 2 : bytes.size();
      const ssize_t put = effect.error != 0 ? -1 : pwrite(file_, bytes.data(), part, size_);
      const int number = effect.error != 0 ? effect.error : errno;
      if (put < 0 && number == EINTR) continue;
      require(put >= 0, [&] { return cannot_write(path_, number); });
      size_ += put;
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
  }
  // Cuts the file to `bytes`, which it must have, and adds them to `hasher`. False: it is shorter.
  bool keep(std::int64_t bytes, Hasher128& hasher) {
    struct stat status = {};
    if (fstat(file_, &status) != 0 || status.st_size < bytes) return false;
    std::vector<std::byte> buffer(std::size_t{1} << 20);
    for (std::int64_t at = 0; at < bytes;) {
      const auto part = std::min(static_cast<std::int64_t>(buffer.size()), bytes - at);
      read(at, std::span(buffer).first(static_cast<std::size_t>(part)));
      hasher.add(buffer.data(), static_cast<std::size_t>(part));
      at += part;
    }
    size_ = bytes;
    return true;
  }
  void truncate() {
    require(ftruncate(file_, size_) == 0, [&] { return cannot_write(path_, errno); });
  }
  void clear() {
    size_ = 0;
    truncate();
  }
  void read(std::int64_t at, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t got = pread(file_, out.data(), out.size(), at);
      if (got < 0 && errno == EINTR) continue;
      require(got > 0, [&] { return cannot_write(path_, got < 0 ? errno : EIO); });
      at += got;
      out = out.subspan(static_cast<std::size_t>(got));
    }
  }
  void sync() {
    require(fdatasync(file_) == 0, [&] { return cannot_write(path_, errno); });
  }

 private:
  std::string path_;
  int file_;
  std::int64_t size_ = 0;
};

TokenStore::TokenStore(const std::string& prefix, std::string fingerprint, int width,
                       Faults* faults)
    : folder_(folder_of(prefix)),
      fingerprint_(std::move(fingerprint)),
      width_(width),
      faults_(faults) {
  const bool before = fs::exists(folder_ + "/journal");
  std::error_code failed;
  fs::create_directories(folder_, failed);
  require(!failed, [&] { return cannot_write(folder_, failed.value()); });
  tokens_file_ = std::make_unique<File>(folder_ + "/tokens");
  documents_file_ = std::make_unique<File>(folder_ + "/documents");
  synced_at_ = milliseconds();
  resumed_ = committed_ = go_on(folder_ + "/journal") || go_on(folder_ + "/journal.durable");
  begun_anew_ = before && !resumed_;
  if (!resumed_) begin();
  tokens_file_->truncate();
  documents_file_->truncate();
}

TokenStore::~TokenStore() {
  if (committed_) return;
  tokens_file_.reset();
  documents_file_.reset();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void TokenStore::begin() {
  std::error_code ignored;
  for (const char* name : {"/journal", "/journal.durable"}) fs::remove(folder_ + name, ignored);
  tokens_file_->clear();
  documents_file_->clear();
  tokens_hash_ = std::make_unique<Hasher128>();
  documents_hash_ = std::make_unique<Hasher128>();
  progress_ = {};
  tokens_ = documents_ = text_bytes_ = ended_tokens_ = ended_bytes_ = 0;
}

bool TokenStore::go_on(const std::string& path) {
  if (!fs::exists(path)) return false;
  const json journal = json::parse(read_file(path, std::size_t{1} << 20), nullptr, false);
  try {
    if (journal.at("version") != journal_version || journal.at("fingerprint") != fingerprint_)
      return false;
    tokens_ = journal.at("tokens"), documents_ = journal.at("documents");
    text_bytes_ = journal.at("text_bytes");
    ended_tokens_ = journal.at("ended_tokens"), ended_bytes_ = journal.at("ended_bytes");
    progress_ = {.source = journal.at("source"),
                 .place = place_of(journal.at("place")),
                 .split = journal.at("split"),
                 .bad = {journal.at("bad"), journal.at("first_bad")}};
    tokens_hash_ = std::make_unique<Hasher128>();
    documents_hash_ = std::make_unique<Hasher128>();
    return tokens_file_->keep(tokens_ * width_, *tokens_hash_) &&
           documents_file_->keep(documents_ * 16, *documents_hash_) &&
           journal.at("tokens_hash") == tokens_hash_->hex() &&
           journal.at("documents_hash") == documents_hash_->hex();
  } catch (const json::exception&) {
    return false;
  }
}

std::string TokenStore::journal_text() const {
  const json journal = {{"version", journal_version},
                        {"fingerprint", fingerprint_},
                        {"tokens", tokens_},
                        {"documents", documents_},
                        {"text_bytes", text_bytes_},
                        {"ended_tokens", ended_tokens_},
                        {"ended_bytes", ended_bytes_},
                        {"tokens_hash", tokens_hash_->hex()},
                        {"documents_hash", documents_hash_->hex()},
                        {"source", progress_.source},
                        {"place", to_json(progress_.place)},
                        {"split", progress_.split},
                        {"bad", progress_.bad.count},
                        {"first_bad", progress_.bad.first}};
  return journal.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

void TokenStore::add(const Piece& piece) {
  tokens_file_->append(piece.ids, faults_);
  tokens_hash_->add(piece.ids.data(), piece.ids.size());
  std::vector<std::int64_t> ends;
  ends.reserve(2 * piece.ends.size());
  std::int64_t tokens = tokens_, text_bytes = text_bytes_;
  for (const Piece::Ended& document : piece.ends) {
    ends.push_back(tokens += document.tokens);
    ends.push_back(text_bytes += document.text_bytes);
  }
  documents_file_->append(std::as_bytes(std::span(ends)), faults_);
  documents_hash_->add(ends.data(), ends.size() * sizeof(std::int64_t));
  if (!piece.ends.empty()) ended_tokens_ = tokens, ended_bytes_ = text_bytes;
  documents_ += static_cast<std::int64_t>(piece.ends.size());
  tokens_ = tokens + piece.open.tokens;
  text_bytes_ = text_bytes + piece.open.text_bytes;
}

void TokenStore::commit(StoreProgress progress) {
  progress_ = std::move(progress);
  const bool durable = milliseconds() - synced_at_ >= between_syncs;
  if (durable) sync();
  const std::string path = folder_ + "/journal", text = journal_text();
  File(path + ".tmp").clear();
  File(path + ".tmp").append(std::as_bytes(std::span(text)), nullptr);
  if (durable) {
    write_file_atomic(path + ".durable", text);
    synced_at_ = milliseconds();
  }
  require(rename((path + ".tmp").c_str(), path.c_str()) == 0,
          [&] { return cannot_write(path, errno); });
  committed_ = true;
}

void TokenStore::read_documents(std::int64_t first, std::span<Document> out) const {
  std::vector<std::int64_t> ends(2 * (out.size() + 1));
  const bool begins = first == 0;
  std::span<std::int64_t> to(ends);
  if (begins) to = to.subspan(2);
  documents_file_->read(16 * (first - (begins ? 0 : 1)), std::as_writable_bytes(to));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = {ends[2 * i], ends[2 * i + 2], ends[2 * i + 3] - ends[2 * i + 1]};
}

void TokenStore::read_tokens(std::int64_t first, std::span<std::byte> out) const {
  tokens_file_->read(first * width_, out);
}

void TokenStore::sync() {
  tokens_file_->sync();
  documents_file_->sync();
}

void TokenStore::remove() {
  std::error_code ignored;
  fs::remove(folder_ + "/journal", ignored);
  fs::remove_all(folder_, ignored);
  committed_ = true;  // nothing is left to take away
}

}  // namespace sluice
