// What predicts: the server that this page is from.

const token = document.getElementById("token"), tokenField = document.getElementById("token-field");

async function ask(path, options = {}) {
  const headers = token.value ? { Authorization: `Bearer ${token.value}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) tokenField.hidden = false;
  const content = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(content.error);
  return content;
}

export async function describe() {
  const { model, version } = await ask("health");
  return `${model} (segkit ${version})`;
}

export const classes = () => ask("classes"); // {names, colors, ignore_index}

// Returns {width, height, ids, confidence, uncertainty}: Uint8Arrays of width * height; 255 is 1.
export async function predict(file) {
  const form = new FormData();
  form.append("image", file, "image");
  const answer = await ask("predict?output=all", { method: "POST", body: form });
  const [ids, confidence, uncertainty] = await Promise.all([answer.mask, answer.confidence, answer.uncertainty].map(plane));
  return { width: answer.width, height: answer.height, ids, confidence, uncertainty };
}

async function plane(dataUrl) {
  const bytes = Uint8Array.from(atob(dataUrl.split(",")[1]), (c) => c.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const scratch = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  scratch.drawImage(bitmap, 0, 0);
  const rgba = scratch.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const grey = new Uint8Array(bitmap.width * bitmap.height);
  for (let k = 0; k < grey.length; k++) grey[k] = rgba[4 * k];
  return grey;
}
