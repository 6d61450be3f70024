#include "checkpoint/metrics_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "core/test_folder.h"

namespace sluice {
namespace {

std::string row(int step) { return "{\"step\":" + std::to_string(step) + ",\"loss\":2.5}"; }

std::string rows(int first, int last) {
  std::string out;
  for (int step = first; step <= last; ++step) out += row(step) + "\n";
  return out;
}

TEST(MetricsFile, AppendsAcrossOpens) {
  const TestFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  {
    MetricsFile file(path);
    for (int step = 1; step <= 3; ++step) EXPECT_TRUE(file.append(row(step)));
    EXPECT_EQ(read_text(path), rows(1, 3));  // at once, not at the end
  }
  MetricsFile(path).append(row(4));
  EXPECT_EQ(read_text(path), rows(1, 4));
}

TEST(MetricsFile, TornLastLineIsCutOff) {
  const TestFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const std::string whole = rows(1, 500);  // longer than the piece that is searched at a time
  for (const std::string& torn : {std::string("{\"st"), std::string(10000, 'x')}) {
    write_text(path, whole + torn);
    MetricsFile(path).append(row(501));
    EXPECT_EQ(read_text(path), rows(1, 501));
  }
  write_text(path, "{\"no newline at all");
  MetricsFile(path).append(row(1));
  EXPECT_EQ(read_text(path), rows(1, 1));
}

TEST(MetricsFile, TruncateMovesLaterRows) {
  const TestFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const auto old = folder.path() / "metrics.jsonl.old";
  EXPECT_EQ(truncate_after(path, 5), 0);
  EXPECT_FALSE(std::filesystem::exists(path));

  const std::string validation = "{\"step\":5,\"val_loss\":2.0,\"digest\":\"ab\"}\n";
  const std::string late = "{\"step\":6,\"val_loss\":2.0}\n";
  write_text(path, rows(1, 5) + validation + row(6) + "\n" + late + row(7) + "\n");
  EXPECT_EQ(truncate_after(path, 7), 0);
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_EQ(truncate_after(path, 5), 3);
  EXPECT_EQ(read_text(path), rows(1, 5) + validation);
  EXPECT_EQ(read_text(old), row(6) + "\n" + late + row(7) + "\n");
  // A second resume adds to the old rows.
  EXPECT_EQ(truncate_after(path, 4), 2);
  EXPECT_EQ(read_text(path), rows(1, 4));
  EXPECT_EQ(read_text(old), row(6) + "\n" + late + row(7) + "\n" + row(5) + "\n" + validation);
}

TEST(MetricsFile, TruncateToleratesTornAndForeignLines) {
  const TestFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  write_text(path,
             rows(1, 2) + "not json\n{\"step\":\"x\"}\n[1]\n" + rows(3, 4) + "{\"step\":5,\"lo");
  EXPECT_EQ(truncate_after(path, 2), 3);
  EXPECT_EQ(read_text(path), rows(1, 2) + "not json\n{\"step\":\"x\"}\n[1]\n");
  EXPECT_EQ(read_text(path.string() + ".old"), rows(3, 4) + "{\"step\":5,\"lo\n");
  write_text(path, rows(1, 2) + "{\"step\":2,\"to");
  EXPECT_EQ(truncate_after(path, 9), 1);
  EXPECT_EQ(read_text(path), rows(1, 2));
}

// A file size limit stands for a full disk: half a row goes in, then nothing.
TEST(MetricsFile, FullDiskKeepsWholeRowsAndCatchesUp) {
  const TestFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  MetricsFile file(path);
  EXPECT_TRUE(file.append(row(1)));
  rlimit full = before;
  full.rlim_cur = row(1).size() + 1 + 5;
  setrlimit(RLIMIT_FSIZE, &full);
  EXPECT_FALSE(file.append(row(2)));
  EXPECT_FALSE(file.append(row(3)));
  const std::string during = read_text(path);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(during, rows(1, 1));
  EXPECT_TRUE(file.append(row(4)));
  EXPECT_EQ(read_text(path), rows(1, 4));
  EXPECT_EQ(file.lost(), 0);
  EXPECT_FALSE(file.append(std::string(100 * 1024, 'x')));  // longer than any row may be
  EXPECT_EQ(file.lost(), 1);
  EXPECT_EQ(read_text(path), rows(1, 4));
}

}  // namespace
}  // namespace sluice
