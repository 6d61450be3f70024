#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice {
namespace {

constexpr double height = 300, left = 58, right = 14, top = 12, bottom = 40;

double width_of(const Chart& chart) { return chart.wide ? 1160 : 640; }

struct Range {
  double low = 0, high = 1;
};

// Places of numbers in the picture.
class Axes {
 public:
  Axes(Range x, Range y, bool log, double width) : x_(x), y_(y), log_(log), width_(width) {}
  double x(double value) const {
    return left + (value - x_.low) / (x_.high - x_.low) * (width_ - left - right);
  }
  double y(double value) const {
    const double at = log_ ? std::log10(value / y_.low) / std::log10(y_.high / y_.low)
                           : (value - y_.low) / (y_.high - y_.low);
    // What leaves the chart goes on a little: it is clipped there.
    return height - bottom - std::clamp(at, -1.0, 3.0) * (height - top - bottom);
  }
  bool shows(double value) const { return std::isfinite(value) && (!log_ || value > 0); }
  const Range& x_range() const { return x_; }
  const Range& y_range() const { return y_; }

 private:
  Range x_, y_;
  bool log_;
  double width_;
};

double round_step(double range, int ticks) {
  const double raw = range / ticks, power = std::pow(10.0, std::floor(std::log10(raw)));
  const double part = raw / power;
  return (part <= 1 ? 1 : part <= 2 ? 2 : part <= 2.5 ? 2.5 : part <= 5 ? 5 : 10) * power;
}

std::vector<double> linear_ticks(const Range& range, int ticks) {
  std::vector<double> out;
  const double step = round_step(range.high - range.low, ticks);
  for (double at = std::ceil(range.low / step - 1e-9) * step; at <= range.high + step * 1e-6;
       at += step)
    out.push_back(std::abs(at) < step * 1e-6 ? 0 : at);
  return out;
}

std::vector<double> log_ticks(const Range& range) {
  std::vector<double> out;
  const double decades = std::log10(range.high / range.low);
  for (double power = std::floor(std::log10(range.low)); power <= std::log10(range.high); ++power)
    for (const double part : {1.0, 2.0, 5.0}) {
      if (decades > 3 && part != 1) continue;
      const double at = part * std::pow(10.0, power);
      if (at >= range.low * 0.999 && at <= range.high * 1.001) out.push_back(at);
    }
  return out;
}

Range x_range(const Chart& chart) {
  Range out{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const Line& line : chart.lines)
    for (const double x : line.x) out = {std::min(out.low, x), std::max(out.high, x)};
  if (!(out.low < out.high)) out = {out.low - 0.5, out.low + 0.5};
  if (out.low < 0.05 * out.high) out.low = 0;
  return std::isfinite(out.low) ? out : Range{};
}

Range y_range(const Chart& chart, const Range& x) {
  Range out{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  const double from = x.low + chart.leave_out * (x.high - x.low);
  const bool log = chart.scale == AxisScale::log;
  for (const Line& line : chart.lines)
    for (std::size_t i = 0; i < line.x.size(); ++i) {
      const bool band = !line.low.empty();
      const double low = band ? line.low[i] : line.y[i], high = band ? line.high[i] : line.y[i];
      if (!std::isfinite(low) || !std::isfinite(high) || (log && low <= 0)) continue;
      out.low = std::min(out.low, low);
      if (line.x[i] >= from) out.high = std::max(out.high, high);
    }
  if (!std::isfinite(out.low) || !std::isfinite(out.high)) return log ? Range{1, 10} : Range{};
  if (chart.scale == AxisScale::from_zero) out.low = 0;
  if (log) return {out.low / 1.2, std::max(out.high * 1.2, out.low * 1.5)};
  if (!(out.low < out.high))
    return {out.low - 0.5 * std::abs(out.low) - 1e-12, out.low * 1.5 + 1e-12};
  const double space = 0.06 * (out.high - out.low);
  return {chart.scale == AxisScale::from_zero ? 0 : out.low - space, out.high + space};
}

// "M1 2L3 4": a path that lifts its pen at gaps.
std::string path_of(const Axes& axes, const std::vector<double>& x, const std::vector<double>& y) {
  std::string out;
  bool down = false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!axes.shows(y[i])) {
      down = false;
      continue;
    }
    out += fmt::format("{}{:.1f} {:.1f}", down ? "L" : "M", axes.x(x[i]), axes.y(y[i]));
    down = true;
  }
  return out;
}

std::string band_of(const Axes& axes, const Line& line) {
  std::vector<std::size_t> there;
  for (std::size_t i = 0; i < line.x.size(); ++i)
    if (axes.shows(line.low[i]) && axes.shows(line.high[i])) there.push_back(i);
  std::string out;
  for (const std::size_t i : there)
    out += fmt::format("{}{:.1f} {:.1f}", out.empty() ? "M" : "L", axes.x(line.x[i]),
                       axes.y(line.high[i]));
  for (auto i = there.rbegin(); i != there.rend(); ++i)
    out += fmt::format("L{:.1f} {:.1f}", axes.x(line.x[*i]), axes.y(line.low[*i]));
  return out.empty() ? out : out + "Z";
}

std::string tick_text(const Chart& chart, double value) {
  return chart.format == "percent" ? fmt::format("{:.4g}%", 100 * value) : short_number(value);
}

std::string grid_of(const Chart& chart, const Axes& axes) {
  std::string out;
  const Range &x = axes.x_range(), &y = axes.y_range();
  const double width = width_of(chart);
  for (const double at : chart.scale == AxisScale::log ? log_ticks(y) : linear_ticks(y, 5))
    out += fmt::format(
        R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)",
        left, width - right, axes.y(at), axes.y(at), left - 8, axes.y(at) + 3.5,
        tick_text(chart, at));
  for (const double at : linear_ticks(x, chart.wide ? 12 : 6))
    out += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)",
                       axes.x(at), height - bottom + 16, short_number(at));
  return out +
         fmt::format(
             R"(<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="label" x="{}" y="{}" text-anchor="end">{}</text>)",
             left, width - right, height - bottom, height - bottom, width - right, height - 6,
             escaped(chart.x_label));
}

std::string line_of(const Axes& axes, const Line& line) {
  std::string out;
  if (!line.low.empty())
    out += fmt::format(R"(<path class="band {}" d="{}"/>)", line.style, band_of(axes, line));
  out +=
      fmt::format(R"(<path class="line {}" d="{}"/>)", line.style, path_of(axes, line.x, line.y));
  if (!line.dots) return out;
  for (std::size_t i = 0; i < line.x.size(); ++i)
    if (axes.shows(line.y[i]))
      out += fmt::format(R"(<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>)", line.style,
                         axes.x(line.x[i]), axes.y(line.y[i]));
  return out;
}

nlohmann::json numbers(const std::vector<double>& values) {
  nlohmann::json out = nlohmann::json::array();
  for (const double value : values) {
    // Six digits are what a person reads; the rest would only make the page large.
    if (std::isfinite(value))
      out.push_back(nlohmann::json::parse(fmt::format("{:.6g}", value)));
    else
      out.push_back(nullptr);
  }
  return out;
}

Axes axes_of(const Chart& chart) {
  const Range x = x_range(chart);
  return {x, y_range(chart, x), chart.scale == AxisScale::log, width_of(chart)};
}

}  // namespace

std::string short_number(double value) {
  const double size = std::abs(value);
  if (value == 0 || !std::isfinite(value)) return value == 0 ? "0" : "–";
  constexpr std::pair<double, const char*> units[] = {
      {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  if (size >= 1e16) return fmt::format("{:.3g}", value);
  for (const auto& [unit, name] : units)
    if (size >= unit) return fmt::format("{:.4g}{}", value / unit, name);
  if (size >= 1e-3) return fmt::format("{:.4g}", value);
  std::string out = fmt::format("{:.3e}", value);  // 6.000e-04 → 6e-4
  const std::size_t e = out.find('e');
  std::string digits = out.substr(0, e);
  while (digits.back() == '0') digits.pop_back();
  if (digits.back() == '.') digits.pop_back();
  return fmt::format("{}e{}", digits, std::stoi(out.substr(e + 1)));
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

Line thinned(Line line, std::size_t most) {
  if (line.x.size() <= most || line.x.back() <= line.x.front()) return line;
  Line out{line.label, line.style, {}, {}, {}, {}, line.dots};
  const double first = line.x.front(),
               span = (line.x.back() - first) / static_cast<double>(most - 1);
  for (std::size_t i = 0; i < line.x.size();) {
    const double end = first + span * (std::floor((line.x[i] - first) / span) + 1);
    double sum_x = 0, sum = 0, low = std::nan(""), high = std::nan("");
    std::size_t count = 0, all = 0;
    for (; i < line.x.size() && (line.x[i] < end || all == 0); ++i, ++all) {
      sum_x += line.x[i];
      if (!std::isfinite(line.y[i])) continue;
      sum += line.y[i], ++count;
      low = std::fmin(low, line.y[i]), high = std::fmax(high, line.y[i]);
    }
    out.x.push_back(sum_x / static_cast<double>(all));
    out.y.push_back(count > 0 ? sum / static_cast<double>(count) : std::nan(""));
    out.low.push_back(low), out.high.push_back(high);
  }
  return out;
}

std::string svg_of(const Chart& chart) {
  const Axes axes = axes_of(chart);
  const double width = width_of(chart);
  std::string out = fmt::format(
      R"(<svg id="{0}" viewBox="0 0 {1} {2}" role="img" aria-label="{3}"><clipPath id="{0}-clip"><rect x="{4}" y="{5}" width="{6}" height="{7}"/></clipPath>)",
      chart.id, width, height, escaped(chart.title), left - 4, top, width - left - right + 8,
      height - top - bottom);
  out += grid_of(chart, axes);
  out += fmt::format(R"svg(<g clip-path="url(#{}-clip)">)svg", chart.id);
  for (const Line& line : chart.lines) out += line_of(axes, line);
  return out + R"(</g><g class="pointer"></g></svg>)";
}

nlohmann::json data_of(const Chart& chart) {
  const Axes axes = axes_of(chart);
  nlohmann::json lines = nlohmann::json::array();
  for (const Line& line : chart.lines)
    lines.push_back({{"label", line.label},
                     {"style", line.style},
                     {"x", numbers(line.x)},
                     {"y", numbers(line.y)}});
  const Range &x = axes.x_range(), &y = axes.y_range();
  return {{"id", chart.id},
          {"x_label", chart.x_label},
          {"format", chart.format},
          {"log", chart.scale == AxisScale::log},
          {"x", {x.low, x.high}},
          {"y", {y.low, y.high}},
          {"box", {left, top, width_of(chart) - right, height - bottom}},
          {"lines", lines}};
}

}  // namespace sluice
