#include "planner/machine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/test_folder.h"

namespace sluice {
namespace {

MachineRates example() {
  MachineRates machine;
  machine.id = {"AMD EPYC (family 26, model 2)", "avx512", 2};
  machine.date = "2026-11-23";
  machine.products = {{"fc", "forward", "float32", 10, 20, 30, 4, 0.5},
                      {"head", "forward", "float32", 100, 20, 30, 1, 2.0},
                      {"fc", "forward", "bf16", 10, 20, 30, 4, 0.1}};
  machine.attention = {{64, 1024, 1e11, 2e11}};
  machine.ops = {{"gelu bf16", {1 << 20, 1, 1}, 3e10}, {"linear f32", {256, 64, 128}, 2e11}};
  machine.between_ops = 1e-6;
  machine.beside = {1e10, 0.75};
  machine.read_one = 1e10, machine.read_all = 2e10, machine.copy_one = 3e10;
  machine.copy_all = 4e10, machine.disk_write = 5e8;
  return machine;
}

std::string refusal(const std::string& text) {
  try {
    parse_machine(text, "machine.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    return e.report().expected;
  }
  return "";
}

TEST(Machine, RateIsThatOfAllProductsTogether) {
  const MachineRates machine = example();
  EXPECT_DOUBLE_EQ(machine.products[0].flops(), 24000);
  EXPECT_DOUBLE_EQ(product_flops(machine, "float32"), (4 * 12000.0 + 120000.0) / (4 * 0.5 + 2));
  EXPECT_DOUBLE_EQ(product_flops(machine, "bf16"), 120000);
  EXPECT_EQ(product_flops(machine, "fp8"), 0);
}

TEST(Machine, ReadsWhatItWrote) {
  const MachineRates read = parse_machine(to_json(example()).dump(), "machine.json");
  EXPECT_EQ(to_json(read), to_json(example()));
  MachineRates other = example();
  other.disk_read = 1;
  EXPECT_NE(to_json(read), to_json(other));
}

TEST(Machine, RefusesEveryDamage) {
  const nlohmann::json good = to_json(example());
  EXPECT_EQ(refusal(good.dump()), "");
  EXPECT_EQ(refusal(""), "one JSON object");
  EXPECT_EQ(refusal(good.dump().substr(0, 100)), "one JSON object");
  EXPECT_EQ(refusal("[]"), "an object");
  EXPECT_EQ(refusal("\xff\xfe"), "one JSON object");
  for (const auto& [key, value] : good.items()) {
    nlohmann::json bad = good;
    bad.erase(key);
    // Files of before these were measured have none.
    const bool newer = key == "attention" || key == "ops" || key == "beside";
    EXPECT_EQ(refusal(bad.dump()), newer ? "" : key);
    for (const nlohmann::json& wrong :
         {nlohmann::json(), nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json("a\nb"),
          nlohmann::json(std::string(300, 'x')), nlohmann::json{{"a", 1}}}) {
      bad[key] = wrong;
      EXPECT_NE(refusal(bad.dump()), "") << key << " " << wrong;
    }
  }
  for (const auto& [key, value] : good["products"][0].items()) {
    for (const nlohmann::json& wrong :
         {nlohmann::json(), nlohmann::json(0), nlohmann::json(UINT64_MAX), nlohmann::json("\x1b["),
          nlohmann::json::array()}) {
      nlohmann::json bad = good;
      bad["products"][1][key] = wrong;
      EXPECT_NE(refusal(bad.dump()), "") << key << " " << wrong;
    }
  }
  nlohmann::json absurd = good;
  absurd["products"][0]["seconds"] = 1e-12;
  absurd["products"][0]["m"] = 1 << 30;
  EXPECT_EQ(refusal(absurd.dump()), "a rate that a machine can have");
  nlohmann::json newer = good;
  newer["version"] = 2;
  EXPECT_EQ(refusal(newer.dump()), "version: an integer from 1 to 1");
}

TEST(Machine, IsFoundAgainAndOnlyByItself) {
  const TestFolder folder;
  const std::string path = folder.path("new/folder/machine.json");
  const MachineId id = example().id;
  EXPECT_EQ(find_machine(path, id).reason, "this machine was not measured");
  EXPECT_EQ(find_machine("", id).reason, "this machine was not measured");
  save_machine(path, example());
  ASSERT_TRUE(find_machine(path, id).machine);
  EXPECT_EQ(find_machine(path, id).machine->products.size(), 3u);

  for (const MachineId& other : {MachineId{"other", id.isa, 2}, MachineId{id.cpu, "avx2", 2},
                                 MachineId{id.cpu, id.isa, 1}}) {
    EXPECT_FALSE(find_machine(path, other).machine);
    EXPECT_NE(find_machine(path, other).reason.find("this run is on"), std::string::npos);
  }
  write_file_atomic(path, "{\"version\": 1");
  EXPECT_EQ(find_machine(path, id).reason,
            "the machine file is damaged (" + path + "): not one JSON object");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_FALSE(find_machine(path, id).machine);
  EXPECT_FALSE(find_machine(path, id).reason.empty());
}

TEST(Machine, SavingOverAFileKeepsOneOrTheOther) {
  const TestFolder folder;
  const std::string path = folder.path("machine.json");
  save_machine(path, example());
  MachineRates other = example();
  other.date = "2027-01-01";
  save_machine(path, other);
  EXPECT_EQ(find_machine(path, other.id).machine->date, "2027-01-01");
  EXPECT_EQ(folder.names(), (std::set<std::string>{"machine.json"}));
  EXPECT_THROW(save_machine(folder.path("machine.json/machine.json"), other), Error);
}

}  // namespace
}  // namespace sluice
