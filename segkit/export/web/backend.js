// What predicts: model.onnx beside this file, in this browser, by onnxruntime-web. Nothing leaves the machine.
// Letterbox and way back as the model's description (about.json) says; arithmetic as segkit's in Python.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

const about = fetch("about.json").then((answer) => answer.json());
const session = fetch("model.onnx").then((answer) => answer.arrayBuffer()).then((bytes) => ort.InferenceSession.create(bytes));

export async function describe() {
  const { version } = await about;
  return `in this browser (segkit ${version})`;
}

export const classes = async () => (await about).classes; // {names, colors, ignore_index}

// Returns {width, height, ids, confidence, uncertainty}: Uint8Arrays of width * height; 255 is 1.
export async function predict(file) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scratch = new OffscreenCanvas(width, height).getContext("2d");
  scratch.drawImage(bitmap, 0, 0);
  const rgba = scratch.getImageData(0, 0, width, height).data;
  const { canvas: [H, W], letterbox } = await about;
  const box = fit(height, width, H, W);
  const input = new Uint8Array(3 * H * W).fill(letterbox.bars);
  for (let c = 0; c < 3; c++) {
    const plane = new Float32Array(width * height);
    for (let k = 0; k < plane.length; k++) plane[k] = rgba[4 * k + c];
    const small = box.h * box.w < height * width ? byArea(plane, height, width, box.h, box.w) : bilinear(plane, height, width, box.h, box.w);
    for (let y = 0; y < box.h; y++) for (let x = 0; x < box.w; x++) {
      input[c * H * W + (box.top + y) * W + box.left + x] = Math.round(small[y * box.w + x]);
    }
  }
  const model = await session;
  const output = await model.run({ [model.inputNames[0]]: new ort.Tensor("uint8", input, [1, 3, H, W]) });
  return answer(output[model.outputNames[0]], box, height, width);
}

// As LetterBox.fit: as large as it goes, rounded once (halves to even, as Python rounds), centred.
function fit(height, width, H, W) {
  const scale = Math.min(H / height, W / width);
  const even = (v) => { const r = Math.round(v); return Math.abs(v % 1) === 0.5 && r % 2 ? r - 1 : r; };
  const [h, w] = [[height, H], [width, W]].map(([side, most]) => Math.min(most, Math.max(1, even(side * scale))));
  return { h, w, top: (H - h) >> 1, left: (W - w) >> 1, H, W };
}

function answer(scores, box, height, width) {
  const [, C, H, W] = scores.dims, ids = new Uint8Array(height * width), planes = [];
  for (let c = 0; c < C; c++) {
    const inner = new Float32Array(box.h * box.w);
    for (let y = 0; y < box.h; y++) {
      const start = c * H * W + (box.top + y) * W + box.left;
      inner.set(scores.data.subarray(start, start + box.w), y * box.w);
    }
    planes.push(box.h === height && box.w === width ? inner : bilinear(inner, box.h, box.w, height, width));
  }
  const confidence = new Uint8Array(height * width), uncertainty = new Uint8Array(height * width);
  const powers = new Float64Array(C);
  for (let k = 0; k < ids.length; k++) {
    let best = 0;
    for (let c = 1; c < C; c++) if (planes[c][k] > planes[best][k]) best = c;
    let sum = 0, entropy = 0;
    for (let c = 0; c < C; c++) sum += powers[c] = Math.exp(planes[c][k] - planes[best][k]);
    for (let c = 0; c < C; c++) if (powers[c] > 0) entropy -= (powers[c] / sum) * Math.log(powers[c] / sum);
    ids[k] = best;
    confidence[k] = Math.round(255 / sum);
    uncertainty[k] = Math.round((255 * entropy) / Math.log(C));
  }
  return { width, height, ids, confidence, uncertainty };
}

// Each output pixel is the mean of the input pixels that it covers, weighted by how much of each (OpenCV's INTER_AREA).
function byArea(plane, height, width, h, w) {
  const columns = shares(width, w), rows = shares(height, h);
  const narrow = new Float32Array(height * w), small = new Float32Array(h * w);
  for (let y = 0; y < height; y++) for (let x = 0; x < w; x++) {
    let sum = 0;
    for (const [source, share] of columns[x]) sum += share * plane[y * width + source];
    narrow[y * w + x] = sum;
  }
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
    let sum = 0;
    for (const [source, share] of rows[y]) sum += share * narrow[source * w + x];
    small[y * w + x] = sum;
  }
  return small;
}

function shares(given, wanted) {
  const step = given / wanted;
  return Array.from({ length: wanted }, (_, k) => {
    const first = k * step, last = Math.min(given, (k + 1) * step), found = [];
    for (let source = Math.floor(first); source < last - 1e-9; source++) {
      found.push([source, (Math.min(last, source + 1) - Math.max(first, source)) / (last - first)]);
    }
    return found;
  });
}

// Half-pixel centres, as F.interpolate(align_corners=False) and OpenCV's INTER_LINEAR.
function bilinear(plane, height, width, h, w) {
  const rows = neighbours(height, h), columns = neighbours(width, w), result = new Float32Array(h * w);
  for (let y = 0; y < h; y++) {
    const [above, below, down] = rows[y];
    for (let x = 0; x < w; x++) {
      const [left, right, across] = columns[x];
      const top = plane[above * width + left] * (1 - across) + plane[above * width + right] * across;
      const bottom = plane[below * width + left] * (1 - across) + plane[below * width + right] * across;
      result[y * w + x] = top * (1 - down) + bottom * down;
    }
  }
  return result;
}

function neighbours(given, wanted) {
  return Array.from({ length: wanted }, (_, k) => {
    const at = Math.max(0, ((k + 0.5) * given) / wanted - 0.5), first = Math.min(given - 1, Math.floor(at));
    return [first, Math.min(given - 1, first + 1), at - first];
  });
}
