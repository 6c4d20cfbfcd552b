// Predict with a model that `segkit export --format onnx` wrote, in Node: the model's own description says how.
//   npm install onnxruntime-web && node segkit_onnx.mjs model.onnx image.ppm mask.pgm
// (ppm: binary RGB; the mask holds class ids)
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

// The value of a key among a model's metadata_props: field 14 of ONNX's protobuf, each of key 1 and value 2.
function metadata(bytes, key) {
  const fields = function* (start, end) {
    const varint = () => { let value = 0, factor = 1, byte; do { byte = bytes[start++]; value += (byte & 127) * factor; factor *= 128; } while (byte > 127); return value; };
    while (start < end) {
      const tag = varint(), kind = tag % 8;
      const length = kind === 2 ? varint() : kind === 0 ? (varint(), 0) : kind === 1 ? 8 : 4;
      yield [Math.floor(tag / 8), start, start + length];
      start += length;
    }
  };
  const text = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  for (const [field, from, to] of fields(0, bytes.length)) {
    if (field !== 14) continue;
    const [name, value] = [...fields(from, to)].map(([, a, b]) => text(a, b));
    if (name === key) return JSON.parse(value);
  }
  throw new Error("a model without segkit's description");
}

// For each output position the input positions and their shares: by area when it shrinks, else of two neighbours.
const shares = (given, wanted, byArea) => Array.from({ length: wanted }, (_, k) => {
  const step = given / wanted;
  if (!byArea) {
    const at = Math.max(0, (k + 0.5) * step - 0.5), first = Math.min(given - 1, Math.floor(at));
    return [[first, 1 - (at - first)], [Math.min(given - 1, first + 1), at - first]];
  }
  const first = k * step, last = Math.min(given, (k + 1) * step), found = [];
  for (let s = Math.floor(first); s < last - 1e-9; s++) found.push([s, (Math.min(last, s + 1) - Math.max(first, s)) / (last - first)]);
  return found;
});

function resize(plane, h, w, H, W, byArea) {
  const rows = shares(h, H, byArea), columns = shares(w, W, byArea), wide = new Float32Array(h * W), result = new Float32Array(H * W);
  for (let y = 0; y < h; y++) for (let x = 0; x < W; x++) for (const [s, share] of columns[x]) wide[y * W + x] += share * plane[y * w + s];
  for (let y = 0; y < H; y++) for (const [s, share] of rows[y]) for (let x = 0; x < W; x++) result[y * W + x] += share * wide[s * W + x];
  return result;
}

const [modelFile, imageFile, maskFile] = process.argv.slice(2);
const model = readFileSync(modelFile), image = readFileSync(imageFile);
const { canvas: [H, W], letterbox: { bars } } = metadata(model, "segkit");
const [head, w, h] = image.toString("latin1", 0, 64).match(/^P6\s+(\d+)\s+(\d+)\s+255\s/).map((word, k) => (k ? Number(word) : word));
const pixels = image.subarray(head.length);
const even = (v) => { const r = Math.round(v); return v % 1 === 0.5 && r % 2 ? r - 1 : r; }; // as Python rounds
const scale = Math.min(H / h, W / w), ih = Math.min(H, Math.max(1, even(h * scale))), iw = Math.min(W, Math.max(1, even(w * scale)));
const top = (H - ih) >> 1, left = (W - iw) >> 1, input = new Uint8Array(3 * H * W).fill(bars);
for (let c = 0; c < 3; c++) {
  const inner = resize(Float32Array.from({ length: h * w }, (_, k) => pixels[3 * k + c]), h, w, ih, iw, ih * iw < h * w);
  for (let y = 0; y < ih; y++) for (let x = 0; x < iw; x++) input[(c * H + top + y) * W + left + x] = Math.round(inner[y * iw + x]);
}
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(model);
const output = (await session.run({ [session.inputNames[0]]: new ort.Tensor("uint8", input, [1, 3, H, W]) }))[session.outputNames[0]];
const best = new Float32Array(h * w).fill(-Infinity), ids = new Uint8Array(h * w);
for (let c = 0; c < output.dims[1]; c++) { // scores to the image's size, then argmax: class ids are never resized
  const inner = Float32Array.from({ length: ih * iw }, (_, k) => output.data[(c * H + top + Math.floor(k / iw)) * W + left + (k % iw)]);
  resize(inner, ih, iw, h, w, false).forEach((score, k) => { if (score > best[k]) { best[k] = score; ids[k] = c; } });
}
writeFileSync(maskFile, Buffer.concat([Buffer.from(`P5\n${w} ${h}\n255\n`), ids]));
