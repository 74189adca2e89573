"""How the page looks, and the script that sorts its tables: all of it is in the page, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root {
  color-scheme: light dark;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
  --paper: #fdfdfc; --raised: #f4f5f3; --ink: #1c1f23; --soft: #5b626b; --line: #dcdfdd;
  --link: #00558c; --better: #00664a; --worse: #a84300; --mark: #fff3c9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --raised: #1d2125; --ink: #e4e7e9; --soft: #9da6ae; --line: #343a40;
    --link: #7cc0f0; --better: #4fcfa2; --worse: #f0995a; --mark: #3d3620;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); overflow-wrap: anywhere; }
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 6px; letter-spacing: -0.005em; }
h3 { font-size: 1rem; margin: 26px 0 8px; }
p { margin: 0 0 12px; max-width: 76ch; }
a { color: var(--link); text-underline-offset: 2px; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.eyebrow { color: var(--soft); font-size: 0.85rem; margin: 0 0 4px; }
.lead { font-size: 1.08rem; color: var(--soft); }
section { padding: 34px 0 6px; border-top: 1px solid var(--line); margin-top: 26px; scroll-margin-top: 8px; }
section.first { border-top: 0; margin-top: 0; padding-top: 16px; }
section > p.about { color: var(--soft); }
nav { margin: 14px 0 0; font-size: 0.9rem; display: flex; flex-wrap: wrap; gap: 4px 18px; }
nav a { text-decoration: none; padding: 2px 0; }
nav a:hover, .links a:hover { text-decoration: underline; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 230px), 1fr)); gap: 10px 28px;
  margin: 18px 0 4px; }
dl.facts div { border-top: 1px solid var(--line); padding-top: 6px; }
dt { color: var(--soft); font-size: 0.8rem; }
dd { margin: 0; font-size: 0.92rem; }
.answer { background: var(--raised); border-left: 4px solid var(--link); border-radius: 0 8px 8px 0;
  padding: 16px 20px 6px; margin: 12px 0 20px; }
.answer { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 0 32px; }
.answer .at { display: block; color: var(--soft); font-size: 0.8rem; }
.warning { border-left: 4px solid var(--worse); background: var(--raised); padding: 10px 16px; margin: 16px 0 0;
  border-radius: 0 8px 8px 0; max-width: none; }
.missing { color: var(--soft); border: 1px dashed var(--line); border-radius: 8px; padding: 12px 16px;
  max-width: none; }
.scroll { overflow-x: auto; margin: 0 0 14px; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: 0.86rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.84rem; padding: 0 0 8px; }
th, td { padding: 6px 12px 6px 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; overflow-wrap: normal; }
th:last-child, td:last-child { padding-right: 4px; }
th.text, td.text { text-align: left; }
thead th { vertical-align: bottom; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--soft); }
tbody th { font-weight: 600; }
tbody th[scope="row"]:first-child { position: sticky; left: 0; background: var(--paper); padding-right: 16px; }
tr.baseline td, tr.baseline th { color: var(--soft); }
th button { all: unset; cursor: pointer; font: inherit; color: inherit; }
th button:hover { color: var(--ink); }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
th[aria-sort] button::after { content: " ↕"; opacity: 0.35; }
th[aria-sort="ascending"] button::after { content: " ↑"; opacity: 1; }
th[aria-sort="descending"] button::after { content: " ↓"; opacity: 1; }
.better { color: var(--better); font-weight: 600; }
.worse { color: var(--worse); font-weight: 600; }
.equivalent, .unresolved { color: var(--soft); }
td small { display: block; font-size: 0.78rem; }
.better small::before { content: "▼ "; } .worse small::before { content: "▲ "; }
code, .mono { font-family: var(--mono); font-size: 0.86em; }
pre { font: 0.84rem/1.5 var(--mono); background: var(--raised); border-radius: 8px; padding: 10px 14px;
  overflow-x: auto; margin: 0 0 14px; }
table.made code { user-select: all; }
tbody:target { background: var(--mark); }
tbody:target th { background: var(--mark) !important; }
details { margin: 4px 0 14px; }
summary { cursor: pointer; color: var(--link); font-size: 0.9rem; padding: 4px 0; }
details ul { margin: 6px 0; padding-left: 20px; color: var(--soft); font-size: 0.88rem; max-width: 100ch; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 22px 28px;
  align-items: start; margin: 14px 0 8px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
@media (min-width: 800px) { figure.middle { grid-column: span 2; } }
figure .title { font-weight: 600; font-size: 0.94rem; margin: 0 0 4px; }
figure .scroll { margin: 0 0 6px; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { color: var(--soft); font-size: 0.82rem; line-height: 1.45; max-width: 84ch; }
.links { white-space: nowrap; }
footer { color: var(--soft); font-size: 0.84rem; padding-top: 26px; padding-bottom: 48px; }
@media (max-width: 600px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 24px; }
  h1 { font-size: 1.6rem; }
  .answer { padding: 12px 14px 2px; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --raised: #f4f4f4; --ink: #000; --soft: #444; --line: #ccc;
    --link: #000; --better: #00583f; --worse: #8a3700; }
  body { font-size: 10.5pt; }
  nav, .links { display: none; }
  figure, tr, .answer { break-inside: avoid; }
  .scroll { overflow: visible; }
  figure svg { min-width: 0 !important; }
  th, td { white-space: normal; }
}
tbody th[scope="rowgroup"] { padding-top: 14px; position: sticky; left: 0; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], first = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column], number = cell.dataset.value;
    if (number !== undefined) return Number(number);
    const text = cell.textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = first.map((row) => [row, value(row, column)]);
      rows.sort(([, a], [, b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return falling ? compare(b, a) : compare(a, b);
      });
      body.append(...rows.map(([row]) => row));
    });
  });
}
"""


def policy() -> str:
    """What a browser lets the page do: its own styles, its own script and nothing else; no network at all."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri "
        "'none'; form-action 'none'"
    )
