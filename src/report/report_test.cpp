#include "report/report.h"

#include <gtest/gtest.h>

#include <regex>

#include "core/test_folder.h"

namespace sluice {
namespace {

constexpr const char* config =
    R"(model = { layers = 2, width = 48, heads = 4, context = 64, vocab = 257 }
data = { train = "corpus" }
batch = { tokens = 128, sequence = 64 }
run = { tokens = 128_000, name = "tiny" }
)";

class ReportPage : public testing::Test {
 protected:
  // A run of `steps` steps in a folder of that name.
  std::string write(const std::string& name, int steps, const std::string& more = "") {
    const std::filesystem::path folder = folder_.path(name);
    std::filesystem::create_directories(folder);
    write_text(folder / "config.toml", config);
    std::string rows;
    for (int step = 1; step <= steps; ++step)
      rows += fmt::format(
          R"({{"step":{},"loss":{},"grad_norm":1.5,"lr":0.001,"tokens":{},"tokens_per_second":1000.0,"mfu":null,"memory":1}})"
          "\n",
          step, 5.0 - 0.001 * step, 128 * step);
    write_text(folder / "metrics.jsonl", rows + more);
    return folder.string();
  }
  static std::string refusal(const std::string& folder) {
    try {
      read_history(folder);
    } catch (const Error& e) {
      return e.text();
    }
    return {};
  }

  TestFolder folder_;
};

TEST_F(ReportPage, ReadsWhatARunTold) {
  const std::string folder =
      write("run", 10,
            R"({"step":10,"val_loss":4.5,"bits_per_byte":6.5,"digest":"abc"})"
            "\n"
            R"({"step":10,"weight_norms":[1,2,3],"grad_norms":[4,null,6]})"
            "\n{\"step\":11,\"lo");  // being written
  const RunHistory run = read_history(folder);
  EXPECT_EQ(run.name, "tiny");
  EXPECT_EQ(run.steps.size(), 10u);
  EXPECT_EQ(run.planned_steps, 1000);
  EXPECT_EQ(run.tokens(), 1280);
  EXPECT_DOUBLE_EQ(run.seconds(), 1.28);
  EXPECT_DOUBLE_EQ(run.flops(), 6.0 * static_cast<double>(run.parameters) * 1280);
  EXPECT_EQ(run.validations.at(0).bits_per_byte, 6.5);
  EXPECT_EQ(run.digest, "abc");
  EXPECT_EQ(run.norms.at(0).weights, (std::vector<double>{1, 2, 3}));
  EXPECT_TRUE(std::isnan(run.norms.at(0).gradients.at(1)));
}

TEST_F(ReportPage, RefusesWhatIsNoRun) {
  EXPECT_NE(refusal(folder_.path("nowhere")).find("this is not a run"), std::string::npos);
  EXPECT_NE(refusal(write("empty", 0)).find("no step to show"), std::string::npos);
  EXPECT_NE(refusal(write("damaged", 2, "{\"step\":3,\n")).find("metrics.jsonl line 3"),
            std::string::npos);
  EXPECT_EQ(refusal(write("good", 2)), "");
}

TEST_F(ReportPage, StandsAlone) {
  const RunHistory run = read_history(write("run", 600));
  const std::string page = report_page({&run, 1});
  // Nothing is fetched: the one address in it is the name of SVG.
  std::string without = page;
  const std::string svg = "http://www.w3.org/2000/svg";
  without.erase(without.find(svg), svg.size());
  EXPECT_EQ(without.find("http"), std::string::npos);
  EXPECT_EQ(page.find("{{"), std::string::npos);
  for (const char* part : {"<svg id=\"loss\"", "<svg id=\"rate\"", "<svg id=\"norm\"",
                           "<svg id=\"speed\"", "prefers-color-scheme: dark"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("<svg id=\"mfu\""), std::string::npos) << "there was none";

  const std::string mark = R"(<script type="application/json" id="data">)";
  const std::size_t begin = page.find(mark) + mark.size();
  const nlohmann::json data =
      nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  EXPECT_EQ(data.at(0).at("id"), "loss");
  EXPECT_LE(data[0].at("lines").at(0).at("x").size(), 400u);
}

TEST_F(ReportPage, EscapesWhatARunSays) {
  RunHistory run = read_history(write("run", 3));
  run.name = run.config.run.name = "</script><b>{{data}}";
  run.samples.push_back({3, "<img src=x>"});
  const std::string page = report_page({&run, 1});
  EXPECT_EQ(page.find("</script><b>"), std::string::npos);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_NE(page.find("&lt;img src=x&gt;"), std::string::npos);
  EXPECT_NE(page.find("&lt;/script&gt;&lt;b&gt;{{data}}"), std::string::npos);
}

TEST_F(ReportPage, OverlaysRunsOverWhatTheyShare) {
  std::vector<RunHistory> runs{read_history(write("one", 20)), read_history(write("two", 30))};
  std::vector<Chart> charts = charts_of(runs);
  ASSERT_EQ(charts.at(0).lines.size(), 2u);
  EXPECT_EQ(charts[0].x_label, "steps");
  EXPECT_EQ(charts[0].lines[1].x.back(), 30);
  EXPECT_NE(charts[0].lines[0].label, charts[0].lines[1].label) << "one name, two folders";
  runs[1].config.batch.tokens = 256;
  charts = charts_of(runs);
  EXPECT_EQ(charts[0].x_label, "tokens");
  EXPECT_EQ(charts[0].lines[1].x.back(), 30 * 128);
}

TEST(ReportChart, ThinsToMeansWithinTheirBand) {
  Line line{"", "c0", {}, {}, {}, {}};
  for (int i = 0; i < 1000; ++i) line.x.push_back(i), line.y.push_back(i % 10);
  line.y[500] = std::nan("");
  const Line few = thinned(line, 100);
  ASSERT_GE(few.x.size(), 99u);
  ASSERT_LE(few.x.size(), 102u);
  for (std::size_t i = 0; i < few.x.size(); ++i) {
    EXPECT_LE(few.low[i], few.y[i]);
    EXPECT_GE(few.high[i], few.y[i]);
  }
  EXPECT_EQ(thinned(line, 1000).x.size(), 1000u) << "few points stay as they are";
  EXPECT_TRUE(thinned(line, 1000).low.empty());
}

TEST(ReportChart, DrawsWithinItsBox) {
  Chart chart;
  chart.id = "id";
  Line line{"a", "c0", {1, 2, 3, 4}, {1e-6, 10, std::nan(""), 1e9}, {}, {}};
  for (const AxisScale scale : {AxisScale::linear, AxisScale::from_zero, AxisScale::log}) {
    chart.scale = scale;
    chart.lines = {line};
    const std::string svg = svg_of(chart);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    const std::regex path(R"(class="line c0" d="M[-0-9. L]+M[-0-9. L]+")");
    EXPECT_TRUE(std::regex_search(svg, path)) << "a gap lifts the pen: " << svg;
  }
  // One point, no range; and none at all.
  chart.lines = {{"a", "c0", {5}, {0}, {}, {}}};
  EXPECT_EQ(svg_of(chart).find("nan"), std::string::npos);
  chart.lines.clear();
  EXPECT_EQ(svg_of(chart).find("nan"), std::string::npos);
}

TEST(ReportChart, WritesNumbersAsPeopleDo) {
  for (const auto& [value, text] : {std::pair{0.0, "0"},
                                    {1500.0, "1.5k"},
                                    {2.048e6, "2.048M"},
                                    {0.25, "0.25"},
                                    {6e-4, "6e-4"},
                                    {1.25e-5, "1.25e-5"},
                                    {-3e9, "-3G"},
                                    {1e20, "1e+20"}})
    EXPECT_EQ(short_number(value), text);
}

}  // namespace
}  // namespace sluice
