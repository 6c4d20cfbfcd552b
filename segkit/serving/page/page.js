// Images in, masks on them, corrected by a brush. What predicts is in backend.js: the server, or this browser.
import * as backend from "./backend.js";
import { palettePng } from "./png.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
const images = []; // {name, bitmap, width, height, ids, confidence, uncertainty, areas, undo, thumbnail}
let classes = null, shown = null, hidden = new Set(), emphasised = null, at = { x: 0, y: 0 };

async function loadClasses() {
  if (classes) return;
  const found = await backend.classes();
  classes = found.names.map((name, id) => ({ id, name, color: found.colors[id] }));
  classes.ignore = found.ignore_index;
  $("brush-class").replaceChildren(...classes.map(({ id, name }) => new Option(`${id} ${name}`, id)));
  buildLegend();
}

async function add(files) {
  for (const file of files) {
    say(`${file.name}: predicting ...`);
    try {
      await loadClasses();
      const [found, bitmap] = await Promise.all([backend.predict(file), createImageBitmap(file).catch(() => null)]);
      images.push({ ...found, bitmap, name: file.name.replace(/\.[^.]*$/, "") || "image", undo: [], edited: false });
      show(images.length - 1);
      say(`${file.name}: ${found.width} x ${found.height} pixels`);
    } catch (error) {
      say(`${file.name}: ${error.message}`, true);
    }
  }
}

// ---- what is seen

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function show(index) {
  shown = images[index];
  $("drop").hidden = true;
  $("view").hidden = $("panel").hidden = false;
  canvas.width = shown.width;
  canvas.height = shown.height;
  canvas.style.setProperty("--aspect", shown.width / shown.height);
  at = { x: shown.width >> 1, y: shown.height >> 1 };
  $("undo").disabled = !shown.undo.length;
  draw();
  strip(index);
  updateAreas();
}

function strip(index) {
  $("strip").replaceChildren(...(images.length < 2 ? [] : images.map((image, k) => {
    const button = document.createElement("button"), picture = document.createElement("img");
    image.thumbnail ??= thumbnail(image);
    picture.src = image.thumbnail;
    picture.alt = image.name;
    button.type = "button";
    button.setAttribute("aria-pressed", k === index);
    button.append(picture);
    button.onclick = () => show(k);
    return button;
  })));
}

function thumbnail(image) {
  const small = document.createElement("canvas");
  small.height = 56;
  small.width = Math.max(1, Math.round((56 * image.width) / image.height));
  if (image.bitmap) small.getContext("2d").drawImage(image.bitmap, 0, 0, small.width, small.height);
  return small.toDataURL("image/png");
}

// Four patterns, so that neighbouring ids differ without colour: dots, stripes in two directions, a grid.
function isInk(id, x, y, unit) {
  const u = Math.floor(x / unit), v = Math.floor(y / unit);
  if (id % 5 === 0) return false;
  if (id % 5 === 1) return (u + v) % 4 === 0;
  if (id % 5 === 2) return (u - v + 4096) % 4 === 0;
  if (id % 5 === 3) return u % 3 === 0 && v % 3 === 0;
  return u % 5 === 0 || v % 5 === 0;
}

function draw() {
  if (!shown) return;
  const { width, height, ids, uncertainty, bitmap } = shown;
  const view = document.querySelector("input[name=view]:checked").value;
  const opacity = view === "mask" ? 1 : $("opacity").value / 100;
  const patterns = $("patterns").checked, unit = Math.max(1, Math.round(Math.max(width, height) / 300));
  context.clearRect(0, 0, width, height);
  if (bitmap) context.drawImage(bitmap, 0, 0, width, height);
  if (view === "image") return;
  const pixels = context.getImageData(0, 0, width, height), data = pixels.data;
  for (let k = 0; k < ids.length; k++) {
    const o = 4 * k;
    if (view === "uncertainty") { // dark blue to yellow: in order of brightness, for every eye
      const u = uncertainty[k] / 255;
      data[o] = 255 * Math.min(1, 2 * u); data[o + 1] = 235 * u; data[o + 2] = 110 * (1 - u); data[o + 3] = 255;
      continue;
    }
    const id = ids[k], entry = classes[id];
    if (!entry || hidden.has(id)) { if (view === "mask") data[o] = data[o + 1] = data[o + 2] = 0; data[o + 3] = 255; continue; }
    const x = k % width, y = (k / width) | 0;
    const edge = (x > 0 && ids[k - 1] !== id) || (y > 0 && ids[k - width] !== id);
    const isBackground = id === 0 && !(entry.color[0] | entry.color[1] | entry.color[2]) && view === "overlay";
    const strength = emphasised !== null && emphasised !== id ? opacity * 0.25 : isBackground ? 0 : opacity;
    let [r, g, b] = edge ? [255, 255, 255] : entry.color;
    if (patterns && !edge && !isBackground && isInk(id, x, y, unit)) {
      const light = 0.3 * r + 0.6 * g + 0.1 * b > 128;
      r = g = b = light ? 0 : 255;
    }
    const a = edge && opacity > 0 ? Math.max(strength, 0.8) : strength;
    data[o] += (r - data[o]) * a; data[o + 1] += (g - data[o + 1]) * a; data[o + 2] += (b - data[o + 2]) * a;
    data[o + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

function buildLegend() {
  $("legend").replaceChildren(...classes.map(({ id, name, color }) => {
    const item = document.createElement("li"), label = document.createElement("label");
    const box = document.createElement("input"), swatch = document.createElement("canvas");
    box.type = "checkbox";
    box.checked = true;
    box.setAttribute("aria-label", `show ${name}`);
    box.onchange = () => { box.checked ? hidden.delete(id) : hidden.add(id); draw(); };
    swatch.className = "swatch";
    [swatch.width, swatch.height] = [30, 22];
    const brush = swatch.getContext("2d");
    for (let y = 0; y < 22; y++) for (let x = 0; x < 30; x++) {
      const light = 0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2] > 128;
      brush.fillStyle = isInk(id, x, y, 1.5) ? (light ? "#000" : "#fff") : `rgb(${color})`;
      brush.fillRect(x, y, 1, 1);
    }
    const text = document.createElement("span"), share = document.createElement("span");
    text.textContent = name;
    share.className = "share";
    label.append(box, swatch, text, share);
    label.onpointerenter = () => { emphasised = id; draw(); };
    label.onpointerleave = () => { emphasised = null; draw(); };
    item.append(label);
    return item;
  }));
}

function areas() {
  const counts = new Array(classes.length).fill(0);
  for (const id of shown.ids) if (id < counts.length) counts[id]++;
  return counts;
}

function updateAreas() {
  areas().forEach((count, id) => {
    const item = $("legend").children[id], share = (100 * count) / shown.ids.length;
    item.classList.toggle("absent", count === 0);
    item.querySelector(".share").textContent = count === 0 ? "-" : share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %`;
  });
}

function describeAt(x, y) {
  const k = y * shown.width + x, id = shown.ids[k];
  const name = classes[id] ? classes[id].name : "unknown";
  say(`(${x}, ${y}) ${name}, confidence ${((100 * shown.confidence[k]) / 255).toFixed(0)} %`);
}

// ---- the brush, the cursor

function position(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: Math.min(shown.width - 1, Math.max(0, Math.floor(((event.clientX - box.left) * shown.width) / box.width))),
    y: Math.min(shown.height - 1, Math.max(0, Math.floor(((event.clientY - box.top) * shown.height) / box.height))),
  };
}

function begin() {
  shown.undo.push(shown.ids.slice());
  if (shown.undo.length > 20) shown.undo.shift();
  shown.edited = true;
  $("undo").disabled = false;
}

function paint(from, to) {
  const radius = $("brush-size").value / 2, id = Number($("brush-class").value);
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
  for (let s = 0; s <= steps; s++) {
    const cx = from.x + ((to.x - from.x) * s) / steps, cy = from.y + ((to.y - from.y) * s) / steps;
    for (let y = Math.max(0, Math.ceil(cy - radius)); y <= Math.min(shown.height - 1, cy + radius); y++) {
      for (let x = Math.max(0, Math.ceil(cx - radius)); x <= Math.min(shown.width - 1, cx + radius); x++) {
        if ((x - cx) ** 2 + (y - cy) ** 2 <= radius * radius) shown.ids[y * shown.width + x] = id;
      }
    }
  }
}

let stroke = null, isDrawing = false;

function redraw() { // once a frame, however fast the pointer is
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => { isDrawing = false; draw(); });
}

canvas.onpointerdown = (event) => {
  if (!$("brush").checked) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  begin();
  stroke = position(event);
  paint(stroke, stroke);
  redraw();
};
canvas.onpointermove = (event) => {
  at = position(event);
  $("cursor").hidden = true;
  if (stroke) {
    paint(stroke, at);
    stroke = at;
    redraw();
  }
  describeAt(at.x, at.y);
};
canvas.onpointerup = canvas.onpointercancel = () => {
  if (stroke) updateAreas();
  stroke = null;
};
canvas.onkeydown = (event) => {
  const step = event.shiftKey ? 20 : 4;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === " " && $("brush").checked) {
    begin();
    paint(at, at);
    draw();
    updateAreas();
  } else if (moves[event.key]) {
    at.x = Math.min(shown.width - 1, Math.max(0, at.x + moves[event.key][0]));
    at.y = Math.min(shown.height - 1, Math.max(0, at.y + moves[event.key][1]));
  } else return;
  event.preventDefault();
  const box = canvas.getBoundingClientRect(), around = $("view").getBoundingClientRect();
  $("cursor").style.left = `${box.left - around.left + ((at.x + 0.5) * box.width) / shown.width}px`;
  $("cursor").style.top = `${box.top - around.top + ((at.y + 0.5) * box.height) / shown.height}px`;
  $("cursor").hidden = false;
  describeAt(at.x, at.y);
};
canvas.onblur = () => { $("cursor").hidden = true; };
$("brush").onchange = () => { canvas.style.touchAction = $("brush").checked ? "none" : "pinch-zoom"; };
$("undo").onclick = undo;

function undo() {
  if (!shown?.undo.length) return;
  shown.ids = shown.undo.pop();
  $("undo").disabled = !shown.undo.length;
  draw();
  updateAreas();
}

// ---- saving

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function palette() {
  const colors = Array.from({ length: 256 }, (_, id) => {
    const rgb = [0, 0, 0];
    for (let bit = 0, rest = id; bit < 8; bit++, rest >>= 3) for (let c = 0; c < 3; c++) rgb[c] |= ((rest >> c) & 1) << (7 - bit);
    return rgb;
  });
  classes.forEach(({ id, color }) => { colors[id] = color; });
  colors[classes.ignore] = [224, 224, 192];
  return colors;
}

$("save-mask").onclick = async () => {
  save(await palettePng(shown.ids, shown.width, shown.height, palette()), `${shown.name}_mask.png`);
};
$("save-overlay").onclick = () => canvas.toBlob((blob) => save(blob, `${shown.name}_overlay.png`));
$("save-json").onclick = () => {
  const counts = areas(), total = shown.ids.length;
  const content = { name: shown.name, width: shown.width, height: shown.height, corrected: shown.edited,
    classes: classes.map(({ id, name, color }) => ({ id, name, color, pixels: counts[id], share: counts[id] / total })) };
  save(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }), `${shown.name}.json`);
};

// ---- images in

for (const target of [$("drop"), $("view")]) {
  target.ondragover = (event) => { event.preventDefault(); target.classList.add("over"); };
  target.ondragleave = () => target.classList.remove("over");
  target.ondrop = (event) => {
    event.preventDefault();
    target.classList.remove("over");
    add([...event.dataTransfer.files]);
  };
}
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) add(files);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
});
$("files").onchange = () => { add([...$("files").files]); $("files").value = ""; };
$("choose").onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("files").click(); } };
$("more").onclick = () => $("files").click();
$("camera").onclick = async () => {
  const video = $("video");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play();
    const still = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    still.getContext("2d").drawImage(video, 0, 0);
    video.srcObject.getTracks().forEach((track) => track.stop());
    add([new File([await still.convertToBlob({ type: "image/jpeg", quality: 0.95 })], "camera.jpg")]);
  } catch (error) {
    say(`no picture from the camera: ${error.message}`, true);
  }
};
for (const input of document.querySelectorAll("input[name=view], #patterns")) input.onchange = draw;
$("opacity").oninput = () => { $("opacity-value").textContent = `${$("opacity").value} %`; redraw(); };
$("brush-size").oninput = () => { $("brush-size-value").textContent = `${$("brush-size").value} px`; };

backend.describe().then((text) => { $("model").textContent = text; }, (error) => say(error.message, true));
