"use strict";
const byId = (id) => document.getElementById(id);
const body = document.querySelector("tbody");
const rows = [...body.rows];
const heads = [...document.querySelectorAll("thead th")];
const chips = [...document.querySelectorAll(".legend button")];
let key = "", falling = false, scaler = "";

const text = (row, column) => row.cells[column]?.firstChild?.textContent ?? "";
const number = (row, column) => {
  const found = text(row, column).replace(/[,%<]/g, "");
  return /\d/.test(found) ? Number(found) : NaN;
};

const ofText = () => key === "0" || key === String(heads.length - 1);

function compare(one, other) {
  if (ofText()) {
    const last = (row) => (key === "0" ? text(row, 0) : row.lastElementChild.textContent);
    return last(one).localeCompare(last(other), undefined, { numeric: true });
  }
  return number(one, Number(key)) - number(other, Number(key));
}

function sorted() {
  if (key === "") return falling ? [...rows].reverse() : rows;
  const unknown = (row) => !ofText() && Number.isNaN(number(row, Number(key)));
  const known = rows.filter((row) => !unknown(row)).sort(compare);
  return [...(falling ? known.reverse() : known), ...rows.filter(unknown)];
}

function arrange() {
  body.append(...sorted());
  heads.forEach((head, column) => {
    if (String(column) === key) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  byId("sort").value = key;
}

function filter() {
  const word = byId("find").value.trim().toLowerCase();
  const flag = byId("show").value;
  let shown = 0;
  for (const row of rows) {
    const name = `${text(row, 0)} ${row.querySelector("small").textContent}`.toLowerCase();
    const has = row.dataset.f.split(" ");
    const fits = name.includes(word) && (!flag || has.includes(flag)) && (!scaler || has.includes(scaler));
    row.hidden = !fits;
    shown += fits;
  }
  const all = shown === rows.length;
  byId("found").textContent = `${all ? "" : `${shown.toLocaleString("en")} of `}${rows.length.toLocaleString("en")} columns`;
  byId("none").hidden = shown > 0;
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    falling = key === button.dataset.k && !falling;
    key = button.dataset.k;
    arrange();
  });
}
for (const chip of chips) {
  chip.addEventListener("click", () => {
    scaler = scaler === chip.dataset.f ? "" : chip.dataset.f;
    for (const each of chips) each.setAttribute("aria-pressed", String(each.dataset.f === scaler));
    filter();
  });
}
byId("find").addEventListener("input", filter);
byId("show").addEventListener("change", filter);
byId("sort").addEventListener("change", (event) => { key = event.target.value; falling = false; arrange(); });
byId("turn").addEventListener("click", () => { falling = !falling; arrange(); });
document.querySelector(".bar").addEventListener("submit", (event) => event.preventDefault());

const tip = byId("tip");
const shortly = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

function explain(event) {
  const chart = event.target.closest?.("svg");
  tip.hidden = !chart;
  if (!chart) return;
  const own = chart.dataset.c ?? chart.closest("tr").querySelector("svg[data-c]").dataset.c;
  const counts = own.split(" ").map(Number);
  const [low, high] = chart.dataset.r.split(" ").map(Number);
  const box = chart.getBoundingClientRect();
  const bins = counts.length - 2;
  const place = Math.floor((event.clientX - box.left) / box.width * bins * 1.125 - bins / 16);
  const bin = Math.max(-1, Math.min(place, bins));
  const end = (step) => shortly(low + (high - low) * step / bins);
  const inside = "d" in chart.dataset ? end(bin + 0.5) : `${end(bin)} to ${end(bin + 1)}`;
  const where = bin < 0 ? `below ${shortly(low)}` : bin === bins ? `beyond ${shortly(high)}` : inside;
  const total = counts.reduce((sum, each) => sum + each, 0);
  const share = total ? (100 * counts[bin + 1] / total).toPrecision(2) : 0;
  tip.textContent = `${where}: ${counts[bin + 1].toLocaleString("en")} (${Number(share)}%)`;
  const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
}
document.addEventListener("pointermove", explain);
document.addEventListener("pointerdown", explain);
filter();
