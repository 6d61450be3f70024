// What runs looked like, as one HTML page that needs nothing else: no network, no other file.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "report/chart.h"
#include "report/history.h"

namespace sluice {

// Loss, learning rate, gradient norm, speed and what else the runs told, all runs in one chart
// each. Over steps when the runs take steps of one size, else over tokens. REQUIRES: at least one
// run.
std::vector<Chart> charts_of(std::span<const RunHistory> runs);

// The page. What it shows of the runs' texts (names, samples, configs) is escaped.
std::string report_page(std::span<const RunHistory> runs);

// page.html, embedded by the build: the page with {{names}} where its contents go.
std::string_view report_template();

}  // namespace sluice
