"use strict";
const $ = (query) => document.querySelector(query);
const cards = [...document.querySelectorAll(".cards li")];
const bar = $("#choose"), words = $("#words"), verdict = $("#verdict"), order = $("#order");
const more = $("#more"), pair = $("#pair"), said = $("#said");
const PAGE = 200;
let room = PAGE;
const key = {
  newest: (a, b) => b.dataset.started.localeCompare(a.dataset.started),
  oldest: (a, b) => a.dataset.started.localeCompare(b.dataset.started),
  longest: (a, b) => b.dataset.seconds - a.dataset.seconds,
};
function show() {
  const text = words.value.toLowerCase();
  let found = 0;
  for (const card of cards) {
    const fits = card.dataset.words.includes(text) && ["", card.dataset.verdict].includes(verdict.value);
    found += fits;
    card.hidden = !fits || found > room;
  }
  for (const group of document.querySelectorAll("section.group"))
    group.hidden = !group.querySelector("li:not([hidden])");
  more.hidden = found <= room;
  said.textContent = `${Math.min(found, room)} of ${found} runs`;
}
function sort() {
  for (const list of document.querySelectorAll(".cards"))
    list.append(...[...list.children].sort(key[order.value]));
}
function tick() {
  const two = [...document.querySelectorAll(".tick:checked")].map((box) => box.value);
  pair.textContent = two.length === 2 ? `fleetsim compare ${two.join(" ")}` : two.length ? "Tick two runs to compare them." : "";
}
for (const field of [words, verdict]) field.addEventListener("input", () => { room = PAGE; show(); });
order.addEventListener("input", sort);
more.addEventListener("click", () => { room += PAGE; show(); });
document.addEventListener("change", (event) => event.target.matches(".tick") && tick());
for (const box of document.querySelectorAll(".tick-label")) box.hidden = false;
bar.hidden = false;
show();
