#include "report/report.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace sluice {
namespace {

using Runs = std::span<const RunHistory>;

constexpr std::size_t most_points = 400;  // of a line: more than there are pixels for
constexpr std::size_t styles = 8;

// A run has its place among those that are shown, and so its colour.
std::string style_of(std::size_t run) { return fmt::format("c{}", run % styles); }

// Names tell runs apart where they differ, folders where they do not.
std::string label_of(Runs runs, std::size_t index) {
  const auto same = [&](const RunHistory& run) { return run.name == runs[index].name; };
  if (std::count_if(runs.begin(), runs.end(), same) == 1) return runs[index].name;
  return runs[index].folder;
}

bool steps_alike(Runs runs) {
  return std::all_of(runs.begin(), runs.end(), [&](const RunHistory& run) {
    return run.config.batch.tokens == runs[0].config.batch.tokens && run.config.batch.ramp.empty();
  });
}

std::string named(Runs runs, std::size_t index, const char* what) {
  if (runs.size() == 1) return *what == '\0' ? label_of(runs, index) : what;
  return fmt::format("{}{}{}", label_of(runs, index), *what == '\0' ? "" : " ", what);
}

// One line a run of a number of its steps; runs that never tell it have none.
class Lines {
 public:
  explicit Lines(Runs runs) : runs_(runs), by_steps_(steps_alike(runs)) {}

  const char* x_label() const { return by_steps_ ? "steps" : "tokens"; }
  double x(const RunHistory& run, std::int64_t step) const {
    return by_steps_ ? static_cast<double>(step) : run.tokens_after(step);
  }

  void add(Chart& chart, const char* what, double StepRow::*number) const {
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      Line line{named(runs_, i, what), style_of(i), {}, {}, {}, {}};
      bool any = false;
      for (const StepRow& row : runs_[i].steps) {
        line.x.push_back(x(runs_[i], row.step));
        line.y.push_back(row.*number);
        any = any || std::isfinite(row.*number);
      }
      if (any) chart.lines.push_back(thinned(std::move(line), most_points));
    }
  }

  void add_validation(Chart& chart, const char* what, double ValidationRow::*number) const {
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      const std::string style = runs_.size() == 1 ? "c1" : style_of(i) + " dashed";
      Line line{named(runs_, i, what), style, {}, {}, {}, {}};
      bool any = false;
      for (const ValidationRow& row : runs_[i].validations) {
        line.x.push_back(x(runs_[i], row.step));
        line.y.push_back(row.*number);
        any = any || std::isfinite(row.*number);
      }
      line.dots = line.x.size() <= 60;
      if (any) chart.lines.push_back(thinned(std::move(line), most_points));
    }
  }

  // A line a layer, of one run: colours in turn.
  void add_layers(Chart& chart, const RunHistory& run,
                  std::vector<double> NormsRow::*numbers) const {
    const std::size_t layers = run.norms.empty() ? 0 : (run.norms.front().*numbers).size();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::string name = layer == 0            ? "embedding"
                               : layer + 1 == layers ? "head"
                                                     : fmt::format("block {}", layer - 1);
      Line line{name, style_of(layer), {}, {}, {}, {}};
      for (const NormsRow& row : run.norms) {
        if ((row.*numbers).size() != layers) continue;
        line.x.push_back(x(run, row.step));
        line.y.push_back((row.*numbers)[layer]);
      }
      chart.lines.push_back(thinned(std::move(line), most_points));
    }
  }

 private:
  Runs runs_;
  bool by_steps_;
};

// Whether a chart of this spread is better read by powers of ten.
AxisScale by_spread(const Chart& chart) {
  double low = 0, high = 0;
  for (const Line& line : chart.lines)
    for (const double y : line.y) {
      if (!(y > 0) || !std::isfinite(y)) continue;
      low = low == 0 ? y : std::min(low, y), high = std::max(high, y);
    }
  return high > 12 * low ? AxisScale::log : AxisScale::from_zero;
}

std::string row(const char* name, const std::vector<std::string>& cells) {
  const auto blank = [](const std::string& cell) { return cell.empty(); };
  if (std::all_of(cells.begin(), cells.end(), blank)) return {};
  if (cells.size() == 1) return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, cells[0]);
  std::string out = fmt::format("<tr><th>{}</th>", name);
  for (const std::string& cell : cells) out += fmt::format("<td>{}</td>", cell);
  return out + "</tr>\n";
}

std::string counted(double value, const char* unit) {
  return fmt::format("{}&nbsp;{}", short_number(value), unit);
}

std::string time_text(double seconds) {
  const auto all = static_cast<std::int64_t>(std::llround(seconds));
  if (all >= 3600) return fmt::format("{}&nbsp;h {}&nbsp;min", all / 3600, all / 60 % 60);
  if (all >= 60) return fmt::format("{}&nbsp;min {}&nbsp;s", all / 60, all % 60);
  return fmt::format("{:.1f}&nbsp;s", seconds);
}

std::string shape_of(const RunHistory& run) {
  const ModelConfig& m = run.config.model;
  return fmt::format("{}, {} layers of width {}, {} heads, context {}, vocabulary {}",
                     escaped(m.family), m.layers, m.width, m.heads, m.context, m.vocab);
}

std::string progress_of(const RunHistory& run) {
  const std::int64_t done = run.steps.back().step;
  return done >= run.planned_steps ? fmt::format("{}", done)
                                   : fmt::format("{} of {}", done, run.planned_steps);
}

const ValidationRow* best_of(const RunHistory& run) {
  const ValidationRow* best = nullptr;
  for (const ValidationRow& row : run.validations)
    if (std::isfinite(row.loss) && (best == nullptr || row.loss < best->loss)) best = &row;
  return best;
}

std::string best_text(const RunHistory& run) {
  const ValidationRow* best = best_of(run);
  if (best == nullptr) return {};
  std::string out = fmt::format("{:.4f}", best->loss);
  if (std::isfinite(best->bits_per_byte))
    out += fmt::format(", {:.4f} bits per byte", best->bits_per_byte);
  return out + fmt::format(" <span class=\"key\">at step {}</span>", best->step);
}

std::string code(const std::string& text) {
  return text.empty() ? text : fmt::format("<code>{}</code>", escaped(text));
}

std::string optim_text(const RunHistory& run) {
  const OptimConfig& o = run.config.optim;
  return fmt::format("{} to {}, {}; {} tokens a step", short_number(o.lr), short_number(o.lr_end),
                     escaped(o.lr_schedule),
                     short_number(static_cast<double>(run.config.batch.tokens)));
}

std::string facts_of(Runs runs) {
  std::string head = "<thead><tr><th></th>";
  for (std::size_t i = 0; i < runs.size(); ++i)
    head += fmt::format(R"(<th><span class="swatch {}"></span>{}</th>)", style_of(i),
                        escaped(label_of(runs, i)));
  const auto each = [&](auto text) {
    std::vector<std::string> cells;
    for (const RunHistory& run : runs) cells.push_back(text(run));
    return cells;
  };
  std::string body;
  body += row("model", each(shape_of));
  body += row("parameters", each([](const RunHistory& r) {
                return short_number(static_cast<double>(r.parameters));
              }));
  body += row("learning rate", each(optim_text));
  body += row("steps", each(progress_of));
  body += row("trained on", each([](const RunHistory& r) {
                return fmt::format("{}, {} <span class=\"key\">(6 N a token)</span>",
                                   counted(r.tokens(), "tokens"), counted(r.flops(), "FLOPs"));
              }));
  body += row("time in steps", each([](const RunHistory& r) {
                return fmt::format("{}, {}", time_text(r.seconds()),
                                   counted(r.tokens() / r.seconds(), "tokens/s"));
              }));
  body += row("last loss",
              each([](const RunHistory& r) { return fmt::format("{:.4f}", r.steps.back().loss); }));
  body += row("best validation", each(best_text));
  body += row("machine", each([](const RunHistory& r) { return escaped(r.machine); }));
  body += row("key", each([](const RunHistory& r) { return code(r.key); }));
  body += row("digest", each([](const RunHistory& r) { return code(r.digest); }));
  body += row("folder", each([](const RunHistory& r) { return code(r.folder); }));
  if (runs.size() == 1) return fmt::format("<dl>\n{}</dl>", body);
  return fmt::format("<table>{}</tr></thead><tbody>\n{}</tbody></table>", head, body);
}

std::string card_of(const Chart& chart) {
  std::string keys;
  constexpr std::size_t most_keys = 12;
  if (chart.lines.size() > 1)
    for (std::size_t i = 0; i < std::min(chart.lines.size(), most_keys); ++i)
      keys += fmt::format(R"(<span class="key"><span class="swatch {}"></span>{}</span>)",
                          chart.lines[i].style, escaped(chart.lines[i].label));
  return fmt::format("<div class=\"card{}\"><div class=\"head\"><h2>{}</h2>{}</div>{}</div>\n",
                     chart.wide ? " wide-card" : "", escaped(chart.title), keys, svg_of(chart));
}

std::string samples_of(Runs runs) {
  std::string out;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].samples.empty()) continue;
    const SampleRow& last = runs[i].samples.back();
    out += fmt::format(
        "<section class=\"card\"><div class=\"head\"><h2>{} after {} steps</h2></div>"
        "<blockquote>{}</blockquote></section>\n",
        escaped(named(runs, i, runs.size() == 1 ? "Sample" : "sample")), last.step,
        escaped(last.text));
  }
  return out;
}

std::string configs_of(Runs runs) {
  std::string out;
  for (std::size_t i = 0; i < runs.size(); ++i)
    out += fmt::format(
        "<section class=\"card\"><details><summary>{}</summary><pre>{}</pre></details></section>\n",
        escaped(named(runs, i, runs.size() == 1 ? "Config" : "config")),
        escaped(to_toml(runs[i].config)));
  return out;
}

std::string title_of(Runs runs) {
  std::string out;
  for (std::size_t i = 0; i < runs.size(); ++i)
    out += (i == 0 ? "" : i + 1 == runs.size() ? " and " : ", ") + label_of(runs, i);
  return out;
}

// JSON inside of a script element: nothing in it may end that element.
std::string script_json(const nlohmann::json& data) {
  std::string text = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;)
    text.replace(at, 1, "\\u003c");
  return text;
}

}  // namespace

std::vector<Chart> charts_of(Runs runs) {
  const Lines lines(runs);
  std::vector<Chart> all;
  const auto add = [&](const char* id, const char* title, const char* format, auto fill) {
    Chart chart{id, title, lines.x_label(), AxisScale::linear, {}, false, 0, format};
    fill(chart);
    if (!chart.lines.empty()) all.push_back(std::move(chart));
  };
  add("loss", "Loss (nats a token)", "loss", [&](Chart& chart) {
    lines.add(chart, "training", &StepRow::loss);
    lines.add_validation(chart, "validation", &ValidationRow::loss);
    chart.leave_out = 0.02;
    chart.wide = true;
  });
  add("bits", "Validation (bits per byte)", "loss",
      [&](Chart& chart) { lines.add_validation(chart, "", &ValidationRow::bits_per_byte); });
  add("rate", "Learning rate", "si", [&](Chart& chart) {
    lines.add(chart, "", &StepRow::lr);
    chart.scale = AxisScale::from_zero;
  });
  add("norm", "Norm of the gradient", "si", [&](Chart& chart) {
    lines.add(chart, "", &StepRow::grad_norm);
    chart.scale = by_spread(chart);
  });
  add("speed", "Speed (tokens a second)", "si", [&](Chart& chart) {
    lines.add(chart, "", &StepRow::tokens_per_second);
    chart.scale = AxisScale::from_zero;
  });
  add("mfu", "Utilization (MFU)", "percent", [&](Chart& chart) {
    lines.add(chart, "", &StepRow::mfu);
    chart.scale = AxisScale::from_zero;
  });
  if (runs.size() > 1) return all;
  add("weights", "Norm of each layer's weights", "si",
      [&](Chart& chart) { lines.add_layers(chart, runs[0], &NormsRow::weights); });
  add("gradients", "Norm of each layer's gradient", "si", [&](Chart& chart) {
    lines.add_layers(chart, runs[0], &NormsRow::gradients);
    chart.scale = by_spread(chart);
  });
  return all;
}

std::string report_page(Runs runs) {
  const std::vector<Chart> charts = charts_of(runs);
  nlohmann::json data = nlohmann::json::array();
  std::string cards;
  for (const Chart& chart : charts) {
    cards += card_of(chart);
    data.push_back(data_of(chart));
  }
  const std::map<std::string, std::string, std::less<>> parts{
      {"title", escaped(title_of(runs))},
      {"subtitle", runs.size() == 1 ? "A training run of Sluice."
                                    : fmt::format("{} training runs of Sluice.", runs.size())},
      {"facts", facts_of(runs)},
      {"charts", cards},
      {"samples", samples_of(runs)},
      {"configs", configs_of(runs)},
      {"data", script_json(data)}};
  // What is put in is not looked at again: it may hold {{…}} of its own.
  std::string out;
  std::string_view left = report_template();
  for (std::size_t at; (at = left.find("{{")) != std::string_view::npos;) {
    const std::size_t end = left.find("}}", at);
    const auto part = parts.find(left.substr(at + 2, end - at - 2));
    require(part != parts.end(), [] { return Error("page.html has a name that nothing fills"); });
    out += left.substr(0, at);
    out += part->second;
    left.remove_prefix(end + 2);
  }
  return out += left;
}

}  // namespace sluice
