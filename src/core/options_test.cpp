#include "core/options.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

struct Settings {
  std::int64_t width = 768;
  std::int64_t inner = 0;
  double lr = 6e-4;
  bool tied = true;
  std::string kind = "normal";
  std::string name;
};

OptionTable table_of(Settings& s) {
  OptionTable table;
  table.add("model.width", &s.width, Effect::numerics, "numbers per token");
  table.add("model.inner", &s.inner, Effect::numerics, "of the MLP").allows_auto = true;
  table.add("optim.lr", &s.lr, Effect::numerics, "learning rate");
  table.add("optim.tied", &s.tied, Effect::free, "one or two");
  table.add("optim.kind", &s.kind, Effect::free, "which").choices = {"normal", "uniform"};
  table.add("run.name", &s.name, Effect::free, "what it is called");
  return table;
}

RawValue bare(std::string text) { return {std::move(text), true, "command line"}; }

std::string error_of(const std::string& key, const RawValue& value) {
  Settings settings;
  try {
    table_of(settings).set(key, value);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

TEST(Options, bare_text_is_read_as_what_the_option_holds) {
  Settings s;
  OptionTable table = table_of(s);
  table.set("model.width", bare("1_024"));
  table.set("model.inner", bare("3072"));
  table.set("optim.lr", bare("3e-4"));
  table.set("optim.tied", bare("false"));
  table.set("optim.kind", bare("uniform"));
  table.set("run.name", bare("42"));
  EXPECT_EQ(s.width, 1024);
  EXPECT_EQ(s.inner, 3072);
  EXPECT_EQ(s.lr, 3e-4);
  EXPECT_FALSE(s.tied);
  EXPECT_EQ(s.kind, "uniform");
  EXPECT_EQ(s.name, "42");
  table.set("model.inner", bare("auto"));
  EXPECT_EQ(s.inner, 0);
  EXPECT_TRUE(table.was_set("model.width"));
  EXPECT_FALSE(table_of(s).was_set("model.width"));
}

TEST(Options, typed_values_keep_their_type) {
  Settings s;
  OptionTable table = table_of(s);
  table.set("optim.lr", {std::int64_t{1}, false, "a.toml:1"});
  EXPECT_EQ(s.lr, 1.0);
  EXPECT_EQ(error_of("model.width", {768.0, false, "a.toml:2"}),
            "sluice: error: model.width cannot be 768.0\n"
            "  where: a.toml:2 model.width\n"
            "  expected: an integer\n"
            "  found: 768.0\n");
  EXPECT_EQ(error_of("model.width", {std::string("768"), false, "a.toml:2"}),
            "sluice: error: model.width cannot be \"768\"\n"
            "  where: a.toml:2 model.width\n"
            "  expected: an integer\n"
            "  found: \"768\"\n");
  EXPECT_EQ(error_of("run.name", {true, false, "a.toml:2"}),
            "sluice: error: run.name cannot be true\n"
            "  where: a.toml:2 run.name\n"
            "  expected: a string\n"
            "  found: true\n");
}

TEST(Options, wrong_values_name_what_was_expected) {
  EXPECT_EQ(error_of("model.inner", bare("some")),
            "sluice: error: model.inner cannot be some\n"
            "  where: command line model.inner\n"
            "  expected: an integer or \"auto\"\n"
            "  found: some\n");
  EXPECT_EQ(error_of("optim.kind", bare("Normal")),
            "sluice: error: optim.kind cannot be Normal\n"
            "  where: command line optim.kind\n"
            "  expected: one of normal, uniform\n"
            "  found: Normal\n");
  for (const char* text : {"", "1e3", "12x", "99999999999999999999", "1 2"})
    EXPECT_NE(error_of("model.width", bare(text)), "no error") << text;
  for (const char* text : {"nan", "inf", "1e999", "fast"})
    EXPECT_NE(error_of("optim.lr", bare(text)), "no error") << text;
  EXPECT_NE(error_of("model.width", bare("auto")), "no error");
  EXPECT_NE(error_of("optim.tied", bare("1")), "no error");
  EXPECT_EQ(error_of("model.width", bare("12")), "no error");
}

TEST(Options, unknown_keys_suggest_the_nearest) {
  EXPECT_EQ(error_of("model.widht", bare("1")),
            "sluice: error: no option is called model.widht\n"
            "  where: command line model.widht\n"
            "  expected: a key that `sluice train --help` lists\n"
            "  found: model.widht\n"
            "  try: model.width\n");
  EXPECT_NE(error_of("train.lr", bare("1")).find("  try: optim.lr\n"), std::string::npos);
  EXPECT_EQ(error_of("quite.another_thing", bare("1")).find("try"), std::string::npos);
}

TEST(Options, print_as_toml_help_and_key) {
  Settings s;
  s.name = "a \"b\"\n\x01\\";
  const OptionTable table = table_of(s);
  EXPECT_EQ(table.toml(),
            "[model]\n"
            "width = 768\n"
            "inner = \"auto\"\n"
            "\n"
            "[optim]\n"
            "lr = 0.0006\n"
            "tied = true\n"
            "kind = \"normal\"\n"
            "\n"
            "[run]\n"
            "name = \"a \\\"b\\\"\\n\\u0001\\\\\"\n");
  EXPECT_EQ(table.numerics_text(),
            "model.inner = \"auto\"\n"
            "model.width = 768\n"
            "optim.lr = 0.0006\n");
  s.name.clear();
  EXPECT_EQ(table.help(),
            "model\n"
            "  * --model.width=768                  numbers per token\n"
            "  * --model.inner=auto                 of the MLP\n"
            "\n"
            "optim\n"
            "  * --optim.lr=0.0006                  learning rate\n"
            "    --optim.tied=true                  one or two\n"
            "    --optim.kind=normal                which: normal, uniform\n"
            "\n"
            "run\n"
            "    --run.name=                        what it is called\n"
            "\n"
            "* numerics: may change the bits of a run. Every other option may not.\n");
}

TEST(Options, numbers_print_so_that_they_read_back) {
  Settings s;
  OptionTable table = table_of(s);
  for (const double value : {1.0, 6e-4, 1e-8, 1e22, 0.1 + 0.2, 5e-324, 1.7976931348623157e308}) {
    s.lr = value;
    const std::string text = table.options()[2].text();
    EXPECT_NE(text.find_first_of(".e"), std::string::npos) << text;
    s.lr = -1;
    table.set("optim.lr", bare(text));
    EXPECT_EQ(s.lr, value) << text;
  }
}

}  // namespace
}  // namespace sluice
