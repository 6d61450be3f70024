#include "models/published.h"

#include <algorithm>
#include <cmath>

#include "models/family.h"

namespace sluice {
namespace {

constexpr PublishedCount exactly(double value) { return {value, 1}; }
constexpr PublishedCount billions(double value) { return {value * 1e9, 0.1e9}; }

constexpr PublishedModel models[] = {
    // name, family, layers, width, heads, inner, vocab, context, parameters,
    // batch, steps, warm-up, lr, lr_end (an empty comment keeps a row on its two lines)
    {"gpt2-124m", "gpt2", 12, 768, 12, 3072, 50257, 1024, exactly(124'439'808), 512},
    {"gpt2-355m", "gpt2", 24, 1024, 16, 4096, 50257, 1024, exactly(354'823'168), 512},
    {"gpt2-774m", "gpt2", 36, 1280, 20, 5120, 50257, 1024, exactly(774'030'080), 512},
    {"gpt2-1558m", "gpt2", 48, 1600, 25, 6400, 50257, 1024, exactly(1'557'611'200), 512},
    {"cerebras-gpt-111m", "gpt2", 10, 768, 12, 3072, 50257, 2048, exactly(111'050'496),  //
     120, 9037, 1525, 6e-4, 6e-5},
    {"cerebras-gpt-256m", "gpt2", 14, 1088, 17, 4352, 50257, 2048, exactly(255'977'024),  //
     264, 9468, 693, 6e-4, 6e-5},
    {"cerebras-gpt-590m", "gpt2", 18, 1536, 12, 6144, 50257, 2048, exactly(590'310'912),  //
     264, 21836, 693, 2e-4, 2e-5},
    {"cerebras-gpt-1.3b", "gpt2", 24, 2048, 16, 8192, 50257, 2048, exactly(1'315'723'264),  //
     528, 24334, 346, 2e-4, 2e-5},
    {"cerebras-gpt-2.7b", "gpt2", 32, 2560, 32, 10240, 50257, 2048, exactly(2'651'553'280),  //
     528, 49041, 346, 2e-4, 2e-5},
    {"cerebras-gpt-6.7b", "gpt2", 32, 4096, 32, 16384, 50257, 2048, exactly(6'658'404'352),  //
     1040, 62522, 176, 1.2e-4, 1.2e-5},
    // 57,000 steps of 720 sequences, then what is left of 116,223 steps of 1080 after 38,000.
    {"cerebras-gpt-13b", "gpt2", 40, 5120, 40, 20480, 50257, 2048, exactly(12'853'386'240),  //
     720, 57'000 + 116'223 - 38'000, 254, 1.2e-4, 1.2e-5},
    {"gigagpt-111m", "gpt2", 10, 768, 12, 3072, 50257, 2048, exactly(111'050'496),  //
     120, 9037, 1525, 6e-4, 6e-5},
    {"gigagpt-1.3b", "gpt2", 24, 2048, 16, 8192, 50257, 2048, exactly(1'315'723'264),  //
     528, 24334, 346, 2e-4, 2e-5},
    {"gigagpt-13b", "gpt2", 40, 5120, 40, 20480, 50257, 2048, exactly(12'853'386'240),  //
     1080, 116'223, 581, 1.2e-4, 1.2e-5},
    {"gigagpt-70b", "gpt2", 80, 8192, 64, 32768, 50257, 2048, exactly(64'861'528'064),  //
     1472, 663'425, 3317, 1e-4, 1e-5},
    {"gigagpt-175b", "gpt2", 96, 12288, 96, 49152, 50257, 2048, exactly(174'604'259'328),  //
     1472, 663'425, 3317, 5e-6, 5e-7},
    {"gptj-6b", "gptj", 28, 4096, 16, 16384, 50400, 2048, exactly(6'050'882'784),  //
     512, 350'000, 3000, 1.2e-4, 1.2e-5},
    {"ptdp-1.7b", "gpt2", 24, 2304, 24, 9216, 51200, 2048, billions(1.7), 512, 500, 3, 1e-4, 1e-5},
    {"ptdp-3.6b", "gpt2", 30, 3072, 32, 12288, 51200, 2048, billions(3.6), 512, 500, 3, 1e-4, 1e-5},
    {"ptdp-7.5b", "gpt2", 36, 4096, 32, 16384, 51200, 2048, billions(7.5), 512, 500, 3, 1e-4, 1e-5},
    {"ptdp-18.4b", "gpt2", 40, 6144, 48, 24576, 51200, 2048, billions(18.4),  //
     1024, 500, 3, 1e-4, 1e-5},
    {"ptdp-39.1b", "gpt2", 48, 8192, 64, 32768, 51200, 2048, billions(39.1),  //
     1536, 500, 3, 1e-4, 1e-5},
    {"ptdp-76.1b", "gpt2", 60, 10240, 80, 40960, 51200, 2048, billions(76.1),  //
     1792, 500, 3, 1e-4, 1e-5},
    {"ptdp-145.6b", "gpt2", 80, 12288, 96, 49152, 51200, 2048, billions(145.6),  //
     2304, 500, 3, 1e-4, 1e-5},
    {"ptdp-310.1b", "gpt2", 96, 16384, 128, 65536, 51200, 2048, billions(310.1),  //
     2160, 500, 3, 1e-4, 1e-5},
    {"ptdp-529.6b", "gpt2", 105, 20480, 128, 81920, 51200, 2048, billions(529.6),  //
     2520, 500, 3, 1e-4, 1e-5},
    {"ptdp-1008b", "gpt2", 128, 25600, 160, 102400, 51200, 2048, billions(1008.0),  //
     3072, 500, 3, 1e-4, 1e-5},
};

}  // namespace

bool PublishedCount::reached_by(std::int64_t count) const {
  return std::abs(static_cast<double>(count) - value) <= unit / 2;
}

std::span<const PublishedModel> published_models() { return models; }

const PublishedModel* find_published(std::string_view name) {
  const auto* found = std::find_if(std::begin(models), std::end(models),
                                   [&](const PublishedModel& model) { return model.name == name; });
  return found == std::end(models) ? nullptr : found;
}

std::int64_t parameters_of(const ModelConfig& config) {
  return build_forward(config, {1, 1}, standard_parametrization(), 1).parameters();
}

}  // namespace sluice
