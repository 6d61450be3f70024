#include "backend/cpu/pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"

namespace sluice {
namespace {

TEST(Pool, RunsEachTaskOnce) {
  for (int threads : {1, 2, 3, 7}) {
    Pool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (std::int64_t tasks : {0, 1, 2, 5, 1000}) {
      std::vector<int> count(static_cast<std::size_t>(tasks), 0);  // not atomic: TSan's bait
      pool.run(tasks, [&](std::int64_t task, int worker) {
        ASSERT_GE(worker, 0);
        ASSERT_LT(worker, threads);
        ++count[static_cast<std::size_t>(task)];
      });
      EXPECT_TRUE(std::all_of(count.begin(), count.end(), [](int n) { return n == 1; }));
    }
  }
}

TEST(Pool, NoTwoRunningBodiesShareAWorker) {
  Pool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<bool> shared{false};
  for (int round = 0; round < 50; ++round) {
    pool.run(64, [&](std::int64_t, int worker) {
      if (busy[static_cast<std::size_t>(worker)].fetch_add(1) != 0) shared = true;
      busy[static_cast<std::size_t>(worker)].fetch_sub(1);
    });
  }
  EXPECT_FALSE(shared);
}

// What a run wrote is seen by the caller and by the next run, whichever threads took part.
TEST(Pool, ManyShortRunsSeeEachOthersWrites) {
  Pool pool(3);
  std::vector<std::int64_t> values(16, 0);
  constexpr std::int64_t runs = 20000;
  for (std::int64_t i = 0; i < runs; ++i) {
    pool.run(16, [&](std::int64_t task, int) { values[static_cast<std::size_t>(task)] += i; });
  }
  for (std::int64_t value : values) EXPECT_EQ(value, runs * (runs - 1) / 2);
}

TEST(Pool, WakesAfterSleeping) {
  Pool pool(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> sum{0};
    pool.run(32, [&](std::int64_t task, int) { sum += static_cast<int>(task); });
    EXPECT_EQ(sum, 31 * 16);
  }
}

TEST(Pool, WorkersTakePart) {
  Pool pool(2);
  std::atomic<int> arrived{0};
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  pool.run(2, [&](std::int64_t, int) {  // ends early only if both tasks run at once
    ++arrived;
    while (arrived < 2 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  });
  EXPECT_LT(std::chrono::steady_clock::now(), limit);
}

TEST(Pool, RethrowsAtTheCallerAndStaysUsable) {
  for (int threads : {1, 3}) {
    Pool pool(threads);
    for (int round = 0; round < 30; ++round) {
      EXPECT_THROW(pool.run(100,
                            [&](std::int64_t task, int) {
                              if (task % 40 == 7) throw std::runtime_error("seven");
                            }),
                   std::runtime_error);
      std::atomic<int> done{0};
      EXPECT_NO_THROW(pool.run(100, [&](std::int64_t, int) { ++done; }));
      EXPECT_EQ(done, 100);
    }
  }
}

TEST(Pool, SleepingWorkersUseNoTime) {
  Pool pool(3);
  pool.run(8, [](std::int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.02);
}

TEST(Pool, RefusesAbsurdThreadCounts) {
  EXPECT_THROW(Pool(0), Error);
  EXPECT_THROW(Pool(Pool::max_threads + 1), Error);
}

}  // namespace
}  // namespace sluice
