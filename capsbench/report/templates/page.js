"use strict";
// Sorting, filtering and copying. The page is whole without it; what is chosen stands in the URL's fragment.
const boards = [...document.querySelectorAll(".board")];
const text = document.getElementById("text"), protocol = document.getElementById("protocol");
const counted = document.getElementById("counted");
let sorts = new Map();  // protocol -> [column, descending]

function value(row, column) {
  const said = row.cells[column].dataset.value;
  const number = Number(said);
  return said === "" ? null : Number.isNaN(number) ? said.toLowerCase() : number;
}

function order(board) {
  const body = board.tBodies[0];
  const [column, descending] = sorts.get(board.dataset.protocol) || [-1, false];
  const rows = [...body.rows].sort((a, b) => {
    if (column < 0) return a.dataset.place - b.dataset.place;
    const x = value(a, column), y = value(b, column);
    if (x === null || y === null) return (x === null) - (y === null);  // what is missing comes last either way
    const ahead = x < y ? -1 : x > y ? 1 : 0;
    return (descending ? -ahead : ahead) || a.dataset.place - b.dataset.place;
  });
  body.append(...rows);
  [...board.tHead.rows[0].cells].forEach((cell, number) => cell.setAttribute(
    "aria-sort", number !== column ? "none" : descending ? "descending" : "ascending"));
}

function filter() {
  const wanted = text.value.trim().toLowerCase();
  let shown = 0;
  for (const board of boards) {
    let rows = 0;
    for (const row of board.tBodies[0].rows) {
      row.hidden = !row.dataset.text.toLowerCase().includes(wanted);
      rows += !row.hidden;
    }
    const whole = document.getElementById("board-" + board.dataset.protocol);
    whole.hidden = (protocol.value && protocol.value !== board.dataset.protocol) || !rows;
    shown += whole.hidden ? 0 : rows;
  }
  for (const suite of document.querySelectorAll(".suite"))
    suite.hidden = [...suite.querySelectorAll(".protocol")].every(one => one.hidden);
  counted.textContent = shown === 1 ? "1 row" : shown + " rows";
}

function keep() {
  const state = new URLSearchParams();
  if (text.value) state.set("text", text.value);
  if (protocol.value) state.set("protocol", protocol.value);
  for (const [board, [column, descending]] of sorts) state.append("sort", [board, column, descending ? "desc" : "asc"].join("."));
  try { history.replaceState(null, "", "#" + state); } catch { location.hash = state; }
}

function restore() {
  const fragment = location.hash.slice(1);
  if (fragment && !fragment.includes("=")) return;  // a place on the page
  const state = new URLSearchParams(fragment);
  text.value = state.get("text") || "";
  protocol.value = state.get("protocol") || "";
  if (protocol.selectedIndex < 0) protocol.value = "";
  sorts = new Map();
  for (const one of state.getAll("sort")) {
    const [name, column, way] = one.split(".");
    const board = boards.find(each => each.dataset.protocol === name);
    if (board && Number(column) >= 0 && Number(column) < board.tHead.rows[0].cells.length)
      sorts.set(name, [Math.floor(Number(column)), way === "desc"]);
  }
  boards.forEach(order);
  filter();
}

for (const board of boards) {
  [...board.tHead.rows[0].cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const [before, descending] = sorts.get(board.dataset.protocol) || [-1, false];
      sorts.set(board.dataset.protocol, [column, before === column ? !descending : cell.dataset.first === "desc"]);
      order(board);
      keep();
    });
  });
}
for (const block of document.querySelectorAll("pre.again")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    let done = true;
    try { await navigator.clipboard.writeText(block.textContent); } catch {
      getSelection().selectAllChildren(block);  // where a page may not write to the clipboard, as from a file
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  });
  block.after(button);
}
text.addEventListener("input", () => { filter(); keep(); });
protocol.addEventListener("input", () => { filter(); keep(); });
addEventListener("hashchange", restore);
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
document.getElementById("tools").hidden = false;
restore();
