#include "checkpoint/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "core/file.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

std::vector<std::int64_t> list_steps(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code ignored;  // no folder: no steps
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::int64_t step = step_of_folder(entry.path().filename().string());
    if (step >= 0 && entry.is_directory(ignored)) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void make_folder(const fs::path& path, Faults& faults) {
  errno = faults.errno_at("save.mkdir");
  if (errno != 0 || ::mkdir(path.c_str(), 0755) != 0) {
    throw disk_error("make the folder", path.string(), errno);
  }
}

bool is_leftover(const std::string& name) {
  return name.starts_with(".trash-") || (name.starts_with("step-") && name.ends_with(".tmp"));
}

}  // namespace

RunLock::RunLock(const fs::path& run_dir) {
  std::error_code error;
  fs::create_directories(run_dir, error);
  const fs::path path = run_dir / ".lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw disk_error("open", path.string(), errno);
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(fd_);
  if (reason != EWOULDBLOCK) throw disk_error("lock", path.string(), reason);
  throw Error(Exit::usage, {"another process trains in this run directory",
                            run_dir.string(),
                            "a run directory that nobody uses",
                            "a held lock",
                            {"wait for the other process, or choose another --out"}});
}

RunLock::~RunLock() { ::close(fd_); }

std::vector<std::int64_t> checkpoint_steps(const fs::path& run_dir) {
  return list_steps(run_dir / "checkpoints");
}

NewestVerified newest_verified(const fs::path& run_dir, CheckDepth depth) {
  NewestVerified out;
  const fs::path folder = run_dir / "checkpoints";
  std::vector<std::int64_t> steps = list_steps(folder);
  for (; !steps.empty(); steps.pop_back()) {
    const fs::path path = folder / folder_of_step(steps.back());
    Verification found = verify_checkpoint(path, depth);
    if (found.ok()) {
      out.checkpoint = Checkpoint{found.manifest.step, path, std::move(found.manifest.run)};
      return out;
    }
    out.skipped.push_back(std::move(found.problems.front()));
    out.damaged.push_back(path);
  }
  return out;
}

Checkpoint open_checkpoint(const fs::path& folder, CheckDepth depth) {
  Verification found = verify_checkpoint(folder, depth);
  if (!found.ok()) throw Error(Exit::input, std::move(found.problems.front()));
  return {found.manifest.step, folder, std::move(found.manifest.run)};
}

CheckpointSave::CheckpointSave(CheckpointStore& store, std::int64_t step)
    : store_(store), temporary_(store.folder_ / (folder_of_step(step) + ".tmp")) {
  manifest_.step = step;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);  // of a save whose own removal failed
  make_folder(temporary_, store_.faults_);
}

CheckpointSave::~CheckpointSave() {
  if (committed_) return;
  writer_.reset();
  std::error_code ignored;  // what stays is removed when the store is next opened
  fs::remove_all(temporary_, ignored);
}

void CheckpointSave::add_file(std::string_view name, std::string_view text) {
  DurableFile file(temporary_ / name, store_.faults_);
  file.write(text);
  WrittenFile written = file.finish();
  manifest_.files.push_back({std::string(name), written.size, std::move(written.hash)});
}

SafetensorsWriter& CheckpointSave::open_safetensors(
    std::string_view name, std::vector<TensorInfo> infos,
    const std::map<std::string, std::string>& metadata) {
  require(writer_ == nullptr, [&] { return Error("a tensor file of the save is still open"); });
  writer_ = std::make_unique<SafetensorsWriter>(temporary_ / name, std::move(infos), metadata,
                                                store_.faults_);
  writer_name_ = name;
  return *writer_;
}

void CheckpointSave::close_safetensors() {
  WrittenFile written = writer_->finish();
  writer_.reset();
  manifest_.files.push_back({writer_name_, written.size, std::move(written.hash)});
}

std::int64_t CheckpointSave::bytes() const {
  std::int64_t total = 0;
  for (const ManifestFile& file : manifest_.files) total += file.size;
  return total;
}

std::vector<std::string> CheckpointSave::commit(const nlohmann::json& run) {
  require(writer_ == nullptr && !committed_,
          [&] { return Error("a save is committed twice or with an open file"); });
  manifest_.run = run;
  DurableFile file(temporary_ / "manifest.json", store_.faults_);
  file.write(manifest_text(manifest_));
  file.finish();
  sync_folder(temporary_, store_.faults_);
  publish();
  committed_ = true;
  return store_.remove_old(manifest_.step);
}

// Gives the temporary folder its name. When the name is taken (a step saved anew after an earlier
// one was resumed) the two are swapped in one system call, so that a kill finds one or the other.
void CheckpointSave::publish() {
  const fs::path target = store_.folder_ / folder_of_step(manifest_.step);
  const bool taken = fs::exists(target);
  const auto swap = [&] {
    return ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE);
  };  // not on every network disk: there the save fails, and the old checkpoint stays
  if (taken) {
    errno = store_.faults_.errno_at("save.rename");
    if (errno != 0 || swap() != 0) throw disk_error("rename", temporary_.string(), errno);
  } else {
    rename_checked(temporary_, target, store_.faults_);
  }
  try {
    sync_folder(store_.folder_, store_.faults_);
  } catch (const Error&) {
    // The new name may not survive a power cut, so the save has failed: back to how it was.
    if (taken) {
      (void)swap();
    } else {
      (void)std::rename(target.c_str(), temporary_.c_str());
    }
    throw;
  }
  std::error_code ignored;  // the old one of the same step; a leftover if it stays
  if (taken) fs::remove_all(temporary_, ignored);
}

CheckpointStore::CheckpointStore(const fs::path& run_dir, int keep_last, Faults& faults)
    : folder_(run_dir / "checkpoints"), keep_last_(keep_last), faults_(faults) {
  require(keep_last >= 1, [&] {
    return Error(Exit::usage, {"at least one checkpoint must be kept",
                               "run.keep_last",
                               "an integer of at least 1",
                               fmt::format("{}", keep_last),
                               {}});
  });
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw disk_error("make the folder", folder_.string(), error.value());
  sync_folder(run_dir.string());
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (is_leftover(entry.path().filename().string())) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove_all(path, error);
}

CheckpointSave CheckpointStore::begin(std::int64_t step) { return CheckpointSave(*this, step); }

std::vector<std::int64_t> CheckpointStore::steps() const { return list_steps(folder_); }

fs::path CheckpointStore::set_aside(const fs::path& folder) {
  fs::path target = folder.string() + ".bad";
  for (int n = 2; fs::exists(target); ++n) target = fmt::format("{}.bad-{}", folder.string(), n);
  std::error_code error;
  fs::rename(folder, target, error);
  if (error) throw disk_error("rename", folder.string(), error.value());
  sync_folder(folder_.string());
  return target;
}

std::vector<std::string> CheckpointStore::remove_old(std::int64_t keep_always) {
  std::vector<std::string> notes;
  std::vector<std::int64_t> all = steps();
  std::erase(all, keep_always);
  // The newest ones count whether or not they would stay for good.
  const auto others = static_cast<std::size_t>(keep_last_ - 1);
  if (all.size() <= others) return notes;
  all.resize(all.size() - others);
  for (const std::int64_t step : all) {
    if (keeps_ && keeps_(step)) continue;
    try {
      remove_folder(folder_ / folder_of_step(step));
    } catch (const Error& e) {
      notes.push_back(e.report().what);
    }
  }
  return notes;
}

// Renamed first, so that a kill between two unlinks leaves nothing that looks like a checkpoint.
void CheckpointStore::remove_folder(const fs::path& folder) {
  const fs::path trash = folder_ / (".trash-" + folder.filename().string());
  std::error_code error;
  fs::remove_all(trash, error);
  rename_checked(folder, trash, faults_);
  errno = faults_.errno_at("save.remove");
  if (errno != 0) throw disk_error("remove", trash.string(), errno);
  fs::remove_all(trash, error);
  if (error) throw disk_error("remove", trash.string(), error.value());
}

}  // namespace sluice
