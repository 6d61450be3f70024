#include "parallel/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace sluice {
namespace {

int position(const std::vector<Scheduled>& list, Phase phase, int layer, int micro) {
  const auto found = std::find(list.begin(), list.end(), Scheduled{phase, layer, micro});
  return found == list.end() ? -1 : static_cast<int>(found - list.begin());
}

TEST(Schedule, one_micro_batch_of_one_block_is_written_out) {
  const std::vector<Scheduled> expected{
      {Phase::load, 0, 0},    {Phase::update, 0, 0},     {Phase::forward, 0, 0},
      {Phase::update, 1, 0},  {Phase::forward, 1, 0},    {Phase::update, 2, 0},
      {Phase::forward, 2, 0}, {Phase::input_grad, 2, 0}, {Phase::weight_grad, 2, 0},
      {Phase::norm, 2, 0},    {Phase::input_grad, 1, 0}, {Phase::weight_grad, 1, 0},
      {Phase::norm, 1, 0},    {Phase::input_grad, 0, 0}, {Phase::weight_grad, 0, 0},
      {Phase::norm, 0, 0},    {Phase::finish, 3, 0},
  };
  EXPECT_EQ(passes({3, 1, 1, true, true}), expected);
}

TEST(Schedule, two_micro_batches_at_once_are_written_out) {
  const std::vector<Scheduled> expected{
      {Phase::load, 0, 0},        {Phase::load, 0, 1},        {Phase::update, 0, 0},
      {Phase::forward, 0, 0},     {Phase::forward, 0, 1},     {Phase::update, 1, 0},
      {Phase::forward, 1, 0},     {Phase::forward, 1, 1},     {Phase::input_grad, 1, 0},
      {Phase::weight_grad, 1, 0}, {Phase::input_grad, 1, 1},  {Phase::weight_grad, 1, 1},
      {Phase::norm, 1, 1},        {Phase::input_grad, 0, 0},  {Phase::weight_grad, 0, 0},
      {Phase::input_grad, 0, 1},  {Phase::weight_grad, 0, 1}, {Phase::norm, 0, 1},
      {Phase::finish, 2, 1},
  };
  EXPECT_EQ(passes({2, 2, 2, true, true}), expected);
}

TEST(Schedule, every_action_once_and_in_order) {
  for (const int layers : {3, 7})
    for (const auto& [micro_batches, at_once] :
         {std::pair{1, 1}, {2, 1}, {5, 1}, {5, 2}, {6, 3}, {5, 5}}) {
      const auto list = passes({layers, micro_batches, at_once, true, true});
      std::map<std::tuple<Phase, int, int>, int> count;
      for (const Scheduled& s : list) ++count[{s.phase, s.layer, s.micro}];
      for (const auto& [key, times] : count) EXPECT_EQ(times, 1);
      EXPECT_EQ(list.size(),
                static_cast<std::size_t>(micro_batches * (1 + 3 * layers) + 2 * layers + 1));
      for (int m = 0; m < micro_batches; ++m)
        for (int l = 0; l < layers; ++l) {
          const int f = position(list, Phase::forward, l, m);
          const int i = position(list, Phase::input_grad, l, m);
          const int w = position(list, Phase::weight_grad, l, m);
          EXPECT_LT(position(list, Phase::load, 0, m), f);
          if (l > 0) {
            EXPECT_LT(position(list, Phase::forward, l - 1, m), f);
            EXPECT_LT(i, position(list, Phase::input_grad, l - 1, m));
          }
          EXPECT_LT(f, i);
          EXPECT_LT(i, w);
          // Gradients accumulate in the order of micro-batches.
          if (m > 0) {
            EXPECT_LT(position(list, Phase::weight_grad, l, m - 1), w);
          }
          EXPECT_LT(w, position(list, Phase::norm, l, micro_batches - 1));
          EXPECT_LT(position(list, Phase::update, l, 0), position(list, Phase::forward, l, 0));
        }
      EXPECT_EQ(list.back(), (Scheduled{Phase::finish, layers, micro_batches - 1}));
    }
}

TEST(Schedule, what_is_not_asked_for_is_not_there) {
  for (const Scheduled& s : passes({4, 3, 1, false, false}))
    EXPECT_TRUE(s.phase == Phase::load || s.phase == Phase::forward);
  EXPECT_EQ(passes({4, 3, 1, false, false}).size(), 3u * 5);
  for (const Scheduled& s : passes({4, 3, 2, false, true})) EXPECT_NE(s.phase, Phase::update);
}

TEST(Schedule, every_layer_from_the_embedding_up) {
  const std::vector<Scheduled> expected{
      {Phase::derive, 0, 0}, {Phase::derive, 1, 0}, {Phase::derive, 2, 0}};
  EXPECT_EQ(every_layer(3, Phase::derive), expected);
}

}  // namespace
}  // namespace sluice
