"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// tables: a click sorts by a column, a second one the other way round
for (const table of all("table.sortable")) {
  all("th", table).forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") !== "descending" && !head.dataset.text
        || head.dataset.text && head.getAttribute("aria-sort") === "ascending";
      all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.children[column].dataset.key;
      const order = (a, b) => head.dataset.text ? key(a).localeCompare(key(b)) : key(a) - key(b);
      const rows = all("tbody tr", table).sort((a, b) => descending ? order(b, a) : order(a, b));
      table.tBodies[0].append(...rows);
    });
  });
}

// images: the slider moves the edge between the image and the layer over it
for (const figure of all("figure.compared")) {
  const stack = figure.querySelector(".stack"), layer = figure.querySelector(".layer");
  figure.querySelector("input").addEventListener("input", (event) => {
    stack.style.setProperty("--cut", `${event.target.value}%`);
  });
  const buttons = all(".layers button", figure);
  const choose = (chosen) => {
    layer.src = chosen.dataset.source;
    layer.alt = chosen.textContent;
    buttons.forEach((button) => button.setAttribute("aria-pressed", button === chosen));
  };
  buttons.forEach((button) => button.addEventListener("click", () => choose(button)));
  choose(buttons.at(-1));
}

// the confusion matrix: shares or pixels, and the images behind a cell
const cells = document.getElementById("cells"), fed = cells ? JSON.parse(cells.textContent) : {};
for (const choice of all("input[name='shown']")) {
  choice.addEventListener("change", () => {
    all(".matrix td button").forEach((cell) => { cell.textContent = cell.dataset[choice.value]; });
  });
}
for (const cell of all(".matrix td button")) {
  cell.addEventListener("click", () => {
    all(".matrix td button").forEach((other) => other.setAttribute("aria-pressed", other === cell));
    const list = document.getElementById("feeding");
    document.getElementById("cell").textContent = `${cell.title}. Most of it in:`;
    list.replaceChildren(...(fed[cell.dataset.cell] || []).map(([name, pixels, id]) => {
      const item = document.createElement("li"), label = document.createElement(id ? "a" : "span");
      label.textContent = name;
      if (id) label.href = `#${id}`;
      item.append(label, `: ${pixels.toLocaleString("en")} pixels`);
      return item;
    }));
  });
}

// charts: pointing at a class brings its line out
for (const button of all(".legend button")) {
  const chart = button.closest(".card").querySelector("svg");
  const bring = (name) => {
    chart.classList.toggle("chosen", name !== null);
    all(".line", chart).forEach((line) => line.classList.toggle("chosen", line.dataset.name === name));
  };
  button.addEventListener("mouseenter", () => bring(button.dataset.name));
  button.addEventListener("focus", () => bring(button.dataset.name));
  button.addEventListener("mouseleave", () => bring(null));
  button.addEventListener("blur", () => bring(null));
}
