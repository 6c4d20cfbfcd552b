// Predict with a model that `segkit export --format openvino` wrote, in C++: the model's own description says how.
//   segkit_openvino model.xml image.ppm mask.pgm      (ppm: binary RGB; the mask holds class ids)
//   g++ -O2 -std=c++17 segkit_openvino.cpp -o segkit_openvino -I$OV/include -L$OV/libs -l:libopenvino.so.NNNN
//   with OV=$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using Plane = std::vector<float>;
struct Box { int h, w, top, left; };

// The numbers behind "name": in the description, which is JSON that segkit wrote: flat enough for this.
static std::vector<double> numbers(const std::string& json, const std::string& name) {
    auto at = json.find("\"" + name + "\":");
    if (at == std::string::npos) throw std::runtime_error("the model's description has no " + name);
    at = json.find_first_of("[0123456789", at);
    std::vector<double> found;
    const auto end = json[at] == '[' ? json.find(']', at) : json.find_first_of(",}", at);
    for (std::string rest = json.substr(at, end - at); !rest.empty();) {
        const auto first = rest.find_first_of("-0123456789");
        if (first == std::string::npos) break;
        size_t length = 0;
        found.push_back(std::stod(rest.substr(first), &length));
        rest = rest.substr(first + length);
    }
    return found;
}

static int to_even(double v) { return static_cast<int>(std::nearbyint(v)); }  // halves to even, as Python rounds

static Box fit(int h, int w, int H, int W) {  // as large as it goes, centred
    const double scale = std::min(double(H) / h, double(W) / w);
    const int ih = std::min(H, std::max(1, to_even(h * scale))), iw = std::min(W, std::max(1, to_even(w * scale)));
    return {ih, iw, (H - ih) / 2, (W - iw) / 2};
}

// For each output position the input positions and their shares: by area when it shrinks, else of two neighbours.
static std::vector<std::vector<std::pair<int, float>>> shares(int given, int wanted, bool by_area) {
    std::vector<std::vector<std::pair<int, float>>> found(wanted);
    const double step = double(given) / wanted;
    for (int k = 0; k < wanted; ++k) {
        if (by_area) {
            const double first = k * step, last = std::min(double(given), (k + 1) * step);
            for (int s = int(first); s < last - 1e-9; ++s)
                found[k].push_back({s, float((std::min(last, s + 1.0) - std::max(first, double(s))) / (last - first))});
        } else {
            const double at = std::max(0.0, (k + 0.5) * step - 0.5);
            const int first = std::min(given - 1, int(at));
            found[k] = {{first, float(1 - (at - first))}, {std::min(given - 1, first + 1), float(at - first)}};
        }
    }
    return found;
}

static Plane resize(const Plane& plane, int h, int w, int H, int W, bool by_area) {
    const auto rows = shares(h, H, by_area), columns = shares(w, W, by_area);
    Plane wide(size_t(h) * W), result(size_t(H) * W);
    for (int y = 0; y < h; ++y)
        for (int x = 0; x < W; ++x)
            for (auto [s, share] : columns[x]) wide[size_t(y) * W + x] += share * plane[size_t(y) * w + s];
    for (int y = 0; y < H; ++y)
        for (auto [s, share] : rows[y])
            for (int x = 0; x < W; ++x) result[size_t(y) * W + x] += share * wide[size_t(s) * W + x];
    return result;
}

int main(int argc, char** argv) try {
    if (argc != 4) throw std::runtime_error("usage: segkit_openvino model.xml image.ppm mask.pgm");
    ov::Core core;
    auto model = core.read_model(argv[1]);
    const auto about = model->get_rt_info<std::string>("segkit");
    const auto canvas = numbers(about, "canvas");
    const int H = int(canvas.at(0)), W = int(canvas.at(1)), bars = int(numbers(about, "bars").at(0));
    std::ifstream file(argv[2], std::ios::binary);
    std::string magic; int w = 0, h = 0, most = 0;
    if (!(file >> magic >> w >> h >> most) || magic != "P6" || most != 255) throw std::runtime_error("expected a binary PPM");
    file.get();
    std::vector<uint8_t> pixels(size_t(3) * w * h);
    if (!file.read(reinterpret_cast<char*>(pixels.data()), pixels.size())) throw std::runtime_error("the PPM is truncated");
    const Box box = fit(h, w, H, W);
    ov::Tensor input(ov::element::u8, {1, 3, size_t(H), size_t(W)});
    std::fill_n(input.data<uint8_t>(), input.get_size(), uint8_t(bars));
    for (int c = 0; c < 3; ++c) {
        Plane plane(size_t(h) * w);
        for (size_t k = 0; k < plane.size(); ++k) plane[k] = pixels[3 * k + c];
        const Plane inner = resize(plane, h, w, box.h, box.w, box.h * box.w < h * w);
        for (int y = 0; y < box.h; ++y)
            for (int x = 0; x < box.w; ++x)
                input.data<uint8_t>()[(size_t(c) * H + box.top + y) * W + box.left + x] = uint8_t(std::lround(inner[size_t(y) * box.w + x]));
    }
    auto request = core.compile_model(model, "CPU").create_infer_request();
    request.set_input_tensor(input);
    request.infer();
    const auto output = request.get_output_tensor();
    const int classes = int(output.get_shape()[1]);
    Plane best(size_t(h) * w, -INFINITY);
    std::vector<uint8_t> ids(best.size());
    for (int c = 0; c < classes; ++c) {  // scores to the image's size, then argmax: class ids are never resized
        Plane inner(size_t(box.h) * box.w);
        for (int y = 0; y < box.h; ++y)
            std::copy_n(output.data<float>() + (size_t(c) * H + box.top + y) * W + box.left, box.w, &inner[size_t(y) * box.w]);
        const Plane scores = resize(inner, box.h, box.w, h, w, false);
        for (size_t k = 0; k < best.size(); ++k)
            if (scores[k] > best[k]) best[k] = scores[k], ids[k] = uint8_t(c);
    }
    std::ofstream(argv[3], std::ios::binary) << "P5\n" << w << " " << h << "\n255\n" << std::string(ids.begin(), ids.end());
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
}
