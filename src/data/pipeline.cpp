#include "data/pipeline.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace sluice {
namespace {

struct Slot {
  enum class State { ready, busy, done } state = State::ready;
  Piece piece;
};

// A source that pieces come from, in their order.
struct Source {
  std::size_t index = 0;
  std::unique_ptr<PieceReader> reader;
  bool busy = true;  // a thread opens or reads it
  bool ended = false;
  std::deque<std::unique_ptr<Slot>> slots;
};

class Pipeline {
 public:
  explicit Pipeline(const PipelineJob& job) : job_(job), next_(job.first) {}

  void run() {
    std::vector<std::jthread> threads;
    try {
      for (int i = 0; i < std::max(job_.threads, 1); ++i)
        threads.emplace_back([this, i] { serve(i); });
      while (std::unique_ptr<Slot> slot = wait()) {
        if (slot->piece.failure) std::rethrow_exception(slot->piece.failure);
        job_.take(slot->piece);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      changed_.notify_all();
      throw;
    }
  }

 private:
  static constexpr std::size_t most_open = 4;

  // The next piece in order, once it is done; null after the last.
  std::unique_ptr<Slot> wait() {
    std::unique_lock lock(mutex_);
    for (;;) {
      while (!open_.empty() && open_.front()->ended && open_.front()->slots.empty() &&
             !open_.front()->busy) {
        open_.pop_front();
        changed_.notify_all();  // there is a place for another
      }
      if (open_.empty() && next_ >= job_.sources) break;
      if (!open_.empty() && !open_.front()->slots.empty() &&
          open_.front()->slots.front()->state == Slot::State::done) {
        std::unique_ptr<Slot> out = std::move(open_.front()->slots.front());
        open_.front()->slots.pop_front();
        bytes_ -= static_cast<std::int64_t>(out->piece.size);
        changed_.notify_all();
        return out;
      }
      done_.wait(lock);
    }
    stop_ = true;
    changed_.notify_all();
    return nullptr;
  }

  void serve(int thread) {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      int ready = 0;
      Slot* const slot = first_ready(ready);
      Source* const source = ready < job_.threads || slot == nullptr ? readable() : nullptr;
      if (source != nullptr) {
        read(*source, lock);
      } else if (slot != nullptr) {
        slot->state = Slot::State::busy;
        lock.unlock();
        work(slot->piece, thread);
        lock.lock();
        slot->state = Slot::State::done;
        done_.notify_one();
      } else {
        changed_.wait(lock);
      }
    }
  }

  Slot* first_ready(int& ready) const {
    Slot* first = nullptr;
    for (const auto& source : open_) {
      for (const auto& slot : source->slots) {
        if (slot->state != Slot::State::ready) continue;
        if (first == nullptr) first = slot.get();
        ++ready;
      }
    }
    return first;
  }
  // The first source that may be read now, opened if need be. The one whose piece is waited for is
  // read whatever the others hold.
  Source* readable() {
    const bool room = bytes_ < piece_budget(job_.threads);
    for (std::size_t i = 0; i < open_.size(); ++i) {
      Source& source = *open_[i];
      if (!source.busy && !source.ended && (room || (i == 0 && source.slots.empty())))
        return &source;
    }
    const std::size_t most = std::min<std::size_t>(most_open, std::max(job_.threads, 1));
    if (next_ >= job_.sources || open_.size() >= most || (!room && !open_.empty())) return nullptr;
    open_.push_back(std::make_unique<Source>());
    open_.back()->index = next_++;
    return open_.back().get();
  }

  void read(Source& source, std::unique_lock<std::mutex>& lock) {
    source.busy = true;
    lock.unlock();
    auto slot = std::make_unique<Slot>();
    slot->piece.source = source.index;
    bool more = true;
    try {
      if (!source.reader) source.reader = job_.open(source.index);
      more = source.reader->next(slot->piece);
    } catch (...) {
      slot->piece.failure = std::current_exception();
      slot->state = Slot::State::done;
    }
    const bool failed = slot->piece.failure != nullptr;
    lock.lock();
    source.busy = false;
    source.ended = !more || failed;
    if (more || failed) {
      bytes_ += static_cast<std::int64_t>(slot->piece.size);
      source.slots.push_back(std::move(slot));
    }
    changed_.notify_all();
    done_.notify_one();
  }

  void work(Piece& piece, int thread) {
    try {
      job_.work(piece, thread);
    } catch (...) {
      piece.failure = std::current_exception();
    }
  }

  const PipelineJob& job_;
  std::mutex mutex_;
  std::condition_variable changed_, done_;
  std::deque<std::unique_ptr<Source>> open_;
  std::size_t next_;
  std::int64_t bytes_ = 0;  // of text, in all slots
  bool stop_ = false;
};

}  // namespace

std::int64_t piece_budget(int threads) {
  return static_cast<std::int64_t>(piece_bytes) * std::clamp(2 * threads, 4, 128);
}

void run_pipeline(const PipelineJob& job) { Pipeline(job).run(); }

}  // namespace sluice
