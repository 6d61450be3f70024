// A chart of lines as SVG: axes with round numbers, grid, bands, dots. It has no colours of its
// own: elements carry classes (c0, c1, … for lines) that a page's style sheet paints, light or
// dark.
//
// Pure functions; any thread. Numbers that are not finite are gaps.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice {

struct Line {
  std::string label;
  std::string style;              // classes: "c0", "c1 dashed", …
  std::vector<double> x, y;       // ascending in x
  std::vector<double> low, high;  // a band around it; empty: none
  bool dots = false;              // few points, each of them shown
};

enum class AxisScale : std::uint8_t { linear, from_zero, log };

struct Chart {
  std::string id;  // of the element, unique on its page
  std::string title;
  std::string x_label;
  AxisScale scale = AxisScale::linear;
  std::vector<Line> lines;
  bool wide = false;  // for the whole width of a page
  // Values of the first part of the range are left out when the top is chosen: what falls fast at
  // the start would flatten all that follows. The curve leaves the chart at its top there.
  double leave_out = 0;
  std::string format = "g4";  // of values: g4, g3, si (1.2k) or percent
};

// At most `most` points: each the mean of a stretch of equal width in x, with the least and the
// largest of it as a band. Fewer points than that stay as they are.
Line thinned(Line line, std::size_t most);

std::string svg_of(const Chart& chart);
// What the page needs to show values under the pointer.
nlohmann::json data_of(const Chart& chart);

// "1.5k", "2.05M", "3e-4": for ticks and heads of tables.
std::string short_number(double value);
std::string escaped(std::string_view text);  // for HTML

}  // namespace sluice
