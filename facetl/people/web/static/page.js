// The page's own script: ticking, keys, answers, names, lazy loading, the queue of questions, running work.
// The server renders everything; text from it is put in as parsed, escaped markup or as textContent.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const view = document.body.dataset.view;
const MOST_BYTES = 64 * 1024 * 1024;

// ---- talking to the server

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body ?? {}),
    });
    const content = await answer.json().catch(() => ({}));
    if (answer.ok) return content;
    toast(content.error ?? "That did not work.");
  } catch {
    toast("The page's server does not answer. Was it stopped?");
  }
  return null;
}

async function fragment(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok) return null;
  return document.createRange().createContextualFragment(await answer.text());
}

async function refresh(text = "") {
  const main = $("#main");
  const items = focusable();
  const place = items.indexOf(document.activeElement);
  const headers = { Accept: "text/html", "X-Shown": String(Math.max(items.length, $$(".answers > li").length)) };
  const answer = await fetch(location.href, { headers });
  if (answer.status === 404) return visit("/", text);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  main.replaceChildren(...$("#main", page).childNodes);
  document.title = page.title;
  begin(main);
  const now = focusable();
  if (place >= 0 && now.length) focusItem(now[Math.min(place, now.length - 1)]);
}

let toastTimer = 0;
function toast(text, { undo = false, link = "" } = {}) {
  const box = $(".toast");
  $("span", box).textContent = text;
  $("button", box).hidden = !undo;
  $("a", box).hidden = !link;
  if (link) $("a", box).href = link;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), undo ? 9000 : 6000);
}

function visit(address, text) {
  if (text) sessionStorage.setItem("toast", text);
  location.assign(address);
}

// ---- grids: walking, ticking

const focusable = () => $$("[data-grid] [data-focus]");
const tileOf = (element) => element?.closest?.(".tile") ?? null;
const ticked = () => $$("[data-grid] .ticked");
let lastTicked = null;

function focusItem(item) {
  if (!item) return;
  for (const other of $$("[data-grid] [data-focus][tabindex='0']")) other.tabIndex = -1;
  item.tabIndex = 0;
  item.focus();
}

function tick(tile, on = !tile.classList.contains("ticked")) {
  tile.classList.toggle("ticked", on);
  if (tile.hasAttribute("aria-selected")) tile.setAttribute("aria-selected", String(on));
  $("button.tick", tile)?.setAttribute("aria-pressed", String(on));
}

function tickUpTo(tile, range) {
  const tiles = $$("[data-grid] .tile");
  const from = range && lastTicked?.isConnected ? tiles.indexOf(lastTicked) : -1;
  const to = tiles.indexOf(tile);
  if (from < 0) tick(tile);
  else for (const one of tiles.slice(Math.min(from, to), Math.max(from, to) + 1)) tick(one, true);
  lastTicked = tile;
  showBar();
}

function clearTicks() {
  for (const tile of ticked()) tick(tile, false);
  showBar();
}

function showBar() {
  const bar = $("[data-bar]");
  if (!bar) return;
  const count = ticked().length;
  bar.hidden = count === 0;
  $("[data-ticked]", bar).textContent = count;
  for (const button of $$("[data-least]", bar)) button.disabled = count < Number(button.dataset.least);
  $("[data-grid]")?.classList.toggle("ticking", count > 0);
}

function walk(key, current) {
  const items = focusable();
  const place = items.indexOf(current);
  if (place < 0) return items[0];
  if (key === "ArrowLeft") return items[Math.max(0, place - 1)];
  if (key === "ArrowRight") return items[Math.min(items.length - 1, place + 1)];
  if (key === "Home") return items[0];
  if (key === "End") return items.at(-1);
  const box = current.getBoundingClientRect();
  const middle = box.left + box.width / 2;
  const step = key === "ArrowDown" ? 1 : -1;
  let best = null, row = null, distance = Infinity;
  for (let at = place + step; at >= 0 && at < items.length; at += step) {
    const other = items[at].getBoundingClientRect();
    if (Math.abs(other.top - box.top) < 4) continue;
    row ??= other.top;
    if (Math.abs(other.top - row) > 4) break;
    const away = Math.abs(other.left + other.width / 2 - middle);
    if (away < distance) [best, distance] = [items[at], away];
  }
  return best ?? current;
}

// ---- what an action is about: the button's own, what is ticked, what has the focus, the stack that is open

function chosen(button) {
  const numbers = (text) => text.split(",").map(Number);
  if (button?.dataset.faces) return { faces: numbers(button.dataset.faces) };
  if (button?.dataset.stacks) return { stacks: numbers(button.dataset.stacks) };
  const tile = tileOf(document.activeElement);
  const tiles = ticked().length ? ticked() : tile ? [tile] : [];
  const faces = tiles.filter((one) => one.dataset.face).map((one) => Number(one.dataset.face));
  const stacks = tiles.filter((one) => one.dataset.stack).map((one) => Number(one.dataset.stack));
  if (faces.length || stacks.length) return { faces, stacks };
  return null;
}

const openStack = () => Number($("[data-stack-view]")?.dataset.stackView ?? 0) || null;

async function say(path, body) {
  const answer = await post(`/answers/${path}`, body);
  if (!answer) return false;
  if (answer.go) visit(answer.go, answer.message);
  else if (openStack() && path === "merge" && answer.stack && answer.stack !== openStack()) {
    visit(`/stacks/${answer.stack}`, answer.message);
  } else {
    await refresh(answer.message);
    toast(answer.message, { undo: true, link: answer.link });
  }
  return true;
}

let naming = null;
function askName(target) {
  naming = target;
  const dialog = $("#naming");
  const input = $("input", dialog);
  input.value = "";
  dialog.showModal();
  input.focus();
}

const acts = {
  name(button) {
    // On an open stack the key means the whole stack, unless faces are ticked: a split leaves one with the focus.
    const target = !button && openStack() && !ticked().length ? null : chosen(button);
    if (target) askName(target);
    else $("#stack-name, #rename-name")?.focus();
  },
  split(button) {
    const target = chosen(button);
    if (target?.faces.length && openStack()) say("split", { stack: openStack(), faces: target.faces });
  },
  merge(button) {
    const target = chosen(button);
    if (target?.stacks?.length >= 2) say("merge", { stacks: target.stacks });
    else $(".alike [data-act=merge]")?.focus();
  },
  accept(button) {
    const tile = tileOf(button ?? document.activeElement);
    const one = button?.dataset.suggestion ? button : tile?.dataset.suggestion ? tile : $("[data-act=accept][data-suggestion]");
    if (one?.dataset.suggestion) say("name", { stacks: [Number(one.dataset.stack)], name: one.dataset.suggestion });
  },
  apart(button) {
    const [first, second] = button.dataset.stacks.split(",").map(Number);
    say("apart", { first, second });
  },
  "not-a-face": (button) => chosen(button) && say("not-a-face", chosen(button)),
  stranger: (button) => chosen(button) && say("stranger", chosen(button)),
  open() {
    const tile = ticked()[0] ?? tileOf(document.activeElement);
    if (tile?.dataset.photo) location.assign(`/photos/${tile.dataset.photo}?face=${tile.dataset.face}`);
  },
  clear: clearTicks,
  help: () => $("#help").showModal(),
  async undo() {
    if (quiz.past.length) return quiz.undo();
    const answer = await post("/answers/undo");
    if (answer) await refresh(answer.message), toast(answer.message);
  },
  async redo() {
    const answer = await post("/answers/redo");
    if (answer) await refresh(), toast(answer.message, { undo: answer.done });
  },
  async cancel() {
    await post("/tasks/cancel");
  },
  async discard() {
    const answer = await post("/learn/discard");
    if (answer) await refresh(), toast(answer.message);
  },
};

// ---- names: a field with a list beneath

function complete(input, list, { pick, suggestion = () => "" }) {
  let people = [], at = -1, asked = 0, timer = 0;
  const close = () => {
    list.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (place) => {
    at = place;
    [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (at >= 0) input.setAttribute("aria-activedescendant", list.children[at].id);
    else input.removeAttribute("aria-activedescendant");
  };
  const take = (place) => {
    const person = people[place];
    close();
    pick(person);
  };
  const show = async () => {
    const number = ++asked;
    const found = await post("/people/names", { beginning: input.value });
    if (!found || number !== asked || document.activeElement !== input) return;
    const first = input.value ? "" : suggestion();
    people = first ? [{ ...(found.find((one) => one.name === first) ?? { name: first }), hint: "suggested" }] : [];
    people.push(...found.filter((one) => one.name !== first));
    list.replaceChildren(...people.map((person, index) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${index}`;
      option.setAttribute("role", "option");
      if (person.key) option.append(Object.assign(new Image(), { src: `/thumbs/${person.key}.jpg`, alt: "" }));
      option.append(Object.assign(document.createElement("b"), { textContent: person.name }));
      option.append(Object.assign(document.createElement("span"), { textContent: person.hint ?? `${person.faces} faces` }));
      option.addEventListener("pointerdown", (event) => { event.preventDefault(); take(index); });
      return option;
    }));
    list.hidden = people.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(-1);
  };
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 60); });
  input.addEventListener("focus", () => (input.value === "" || input.type === "search") && show());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); event.stopPropagation(); close(); return; }
    if (list.hidden) { if (event.key === "ArrowDown") { event.preventDefault(); show(); } return; }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      mark((at + step + people.length + (at < 0 && step < 0 ? 1 : 0)) % people.length);
    } else if (event.key === "Enter" && at >= 0) { event.preventDefault(); take(at); }
  });
  return { first: () => people[0], close };
}

function beginNames(root) {
  for (const field of $$("[data-names]", root)) {
    const input = $("input", field);
    const form = input.form;
    const pick = (person) => {
      input.value = person.name;
      if (!form.dataset.rename) form.requestSubmit();
    };
    complete(input, $("ul", field), { pick, suggestion: () => input.dataset.suggestion });
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  event.preventDefault();
  const name = form.elements.name?.value.trim();
  if (form.closest("#naming")) {
    $("#naming").close();
    if (name && naming) say("name", { ...naming, name });
  } else if (form.dataset.naming !== undefined) {
    if (name) await say("name", { stacks: [Number(form.dataset.stacks)], name });
    $("[data-key=j]")?.focus();
  } else if (form.dataset.rename) {
    if (name) say("rename", { person: Number(form.dataset.rename), name });
  } else if (form.dataset.export !== undefined) sendExport(form);
});

// ---- loading as it comes into view

const watcher = new IntersectionObserver(async (entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    const sentinel = entry.target;
    watcher.unobserve(sentinel);
    const more = await fragment(sentinel.dataset.more);
    if (!more || !sentinel.isConnected) continue;
    const next = $(".sentinel", more);
    sentinel.replaceWith(more);
    if (next) watcher.observe(next);
  }
}, { rootMargin: "500px" });

async function load(section) {
  // Pictures in sight come first.
  if (document.readyState !== "complete") await new Promise((resume) => addEventListener("load", resume));
  const content = await fragment(section.dataset.load);
  if (content && section.isConnected) section.replaceChildren(content);
}

// ---- the queue of "Same person?"

const quiz = {
  past: [],
  busy: false,
  all: () => $$("[data-questions] .question"),
  show() {
    const questions = this.all();
    questions.forEach((question, index) => (question.hidden = index > 0));
    const done = $("[data-done]");
    if (done) done.hidden = questions.length > 0;
    $("[data-answered]").textContent = this.past.filter((one) => one.reply !== "skip").length;
  },
  pair: (question) => ({ first: Number(question.dataset.first), second: Number(question.dataset.second) }),
  async reply(reply) {
    const question = this.all()[0];
    if (!question || this.busy) return;
    this.busy = true;
    const answer = await post("/answers/reply", { ...this.pair(question), reply });
    this.busy = false;
    if (!answer) return;
    question.remove();
    this.past.push({ question, reply });
    this.show();
    this.fill();
  },
  async undo() {
    const { question, reply } = this.past.at(-1);
    const answer = reply === "skip" ? await post("/answers/unskip", this.pair(question)) : await post("/answers/undo");
    if (!answer) return;
    this.past.pop();
    $("[data-questions]").prepend(question);
    this.show();
    toast(answer.message);
  },
  filling: false,
  async fill() {
    // An answer changes what is worth asking: all but the next two are asked for anew.
    if (this.filling) return;
    this.filling = true;
    const known = this.all().slice(0, 2).map((one) => `known=${one.dataset.first}-${one.dataset.second}`);
    const fresh = await fragment(`/questions/more?${known.join("&")}`).catch(() => null);
    this.filling = false;
    if (!fresh) return;
    const kept = new Set(known);
    for (const old of this.all()) if (!kept.has(`known=${old.dataset.first}-${old.dataset.second}`)) old.remove();
    $("[data-questions]").append(fresh);
    this.show();
  },
};

// ---- running work

let watching = false;
async function watch() {
  if (watching) return;
  watching = true;
  for (;;) {
    const state = await fetch("/tasks/state").then((answer) => answer.json()).catch(() => null);
    if (!state) break;
    showWork(state);
    if (!state.running) {
      if (state.number) {
        if ($("[data-refresh]")) await refresh();
        else toast(state.message);
      }
      break;
    }
    await new Promise((resume) => setTimeout(resume, 600));
  }
  watching = false;
}

function showWork(state) {
  const share = state.total ? ` ${Math.floor((100 * state.done) / state.total)}%` : "";
  $("#work").hidden = !state.running;
  $("#work [data-text]").textContent = state.what + share;
  const card = $("[data-state]");
  if (!card) return;
  card.hidden = false;
  $("[data-what]", card).textContent = state.what;
  const bar = $("progress", card);
  bar.hidden = !state.running;
  if (state.total) Object.assign(bar, { max: state.total, value: state.done });
  else bar.removeAttribute("value");
  const far = state.total ? `${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")}` : "";
  const left = state.done ? (state.seconds * (state.total - state.done)) / state.done : 0;
  const until = left > 5 ? ` · about ${left < 90 ? `${Math.round(left)} s` : `${Math.round(left / 60)} min`} left` : "";
  $("[data-message]", card).textContent = state.stopping ? "Stopping …" : state.running ? far + until : state.message;
  $("[data-cancel]", card).hidden = !state.running;
}

async function start(path, body) {
  const answer = await post(path, body);
  if (answer) watch();
}

function sendExport(form) {
  const data = new FormData(form);
  const people = data.get("whom") === "some" ? data.getAll("people").map(Number) : null;
  start("/tasks/export", { folder: data.get("folder"), kinds: data.getAll("kinds"), links: data.get("links"), people });
}

// ---- search by photo

async function search(file) {
  if (document.body.dataset.canSearch !== "yes") return toast("Searching by photo needs a trained run, and this library has none yet.");
  if (file.size > MOST_BYTES) return toast("The photo is too large: at most 64 MiB.");
  toast("Looking for faces …");
  try {
    const answer = await fetch("/search/photo", {
      method: "POST",
      headers: { "Content-Type": file.type || "application/octet-stream", Accept: "application/json" },
      body: file,
    });
    const content = await answer.json();
    if (answer.ok) location.assign(content.go);
    else toast(content.error);
  } catch {
    toast("The photo could not be sent.");
  }
}

// ---- mouse, drag, keys

document.addEventListener("click", (event) => {
  const menu = $(".menu[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
  const button = event.target.closest("[data-act]");
  if (button) {
    if (menu) menu.open = false;
    return acts[button.dataset.act]?.(button);
  }
  if (event.target.closest("[data-close]")) return event.target.closest("dialog").close();
  const starter = event.target.closest("[data-start]");
  if (starter) return start(`/tasks/${starter.dataset.start}`);
  const reply = event.target.closest("[data-reply]");
  if (reply) return quiz.reply(reply.dataset.reply);
  const tile = tileOf(event.target);
  if (tile?.classList.contains("face") || event.target.closest("button.tick")) {
    tickUpTo(tile, event.shiftKey);
    focusItem(tile.matches("[data-focus]") ? tile : $("[data-focus]", tile));
  }
});

document.addEventListener("dragstart", (event) => {
  const tile = tileOf(event.target);
  if (!tile?.classList.contains("face") || !openStack()) return;
  if (!tile.classList.contains("ticked")) tickUpTo(tile, false);
  event.dataTransfer.setData("text/plain", String(ticked().length));
  event.dataTransfer.effectAllowed = "move";
  $(".drop").hidden = false;
  $("[data-bar]").hidden = $(".toast").hidden = true;
});
document.addEventListener("dragend", () => { const drop = $(".drop"); if (drop) { drop.hidden = true; showBar(); } });

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0;
document.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; $(".veil").hidden = false; } });
document.addEventListener("dragleave", (event) => { if (carriesFiles(event) && --depth <= 0) $(".veil").hidden = true; });
document.addEventListener("dragover", (event) => {
  const drop = event.target.closest?.("[data-drop]");
  $(".drop")?.classList.toggle("over", Boolean(drop));
  if (drop || carriesFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  depth = 0;
  $(".veil").hidden = true;
  if (event.target.closest?.("[data-drop]")) { event.preventDefault(); $(".drop").hidden = true; acts.split(); }
  else if (carriesFiles(event)) { event.preventDefault(); if (event.dataTransfer.files[0]) search(event.dataTransfer.files[0]); }
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-pick]") && event.target.files[0]) search(event.target.files[0]);
  if (event.target.matches("[data-boxes]")) showBoxes(event.target.checked);
  if (event.target.name === "whom") $(".choose").hidden = event.target.value !== "some";
});
function showBoxes(on) { for (const boxes of $$(".boxes")) boxes.style.display = on ? "" : "none"; }
document.addEventListener("pointerover", (event) => {
  const number = event.target.closest?.("[data-box]")?.dataset.box ?? event.target.closest?.("[data-row]")?.dataset.row;
  for (const one of $$(".lit")) one.classList.remove("lit");
  if (number) for (const one of $$(`[data-box="${number}"], [data-row="${number}"]`)) one.classList.add("lit");
});

const keys = {
  n: acts.name, s: acts.split, m: acts.merge, x: acts["not-a-face"], b: acts.stranger, o: acts.open, y: acts.accept,
  u: acts.undo, U: acts.redo, "?": acts.help,
  "/": () => $("[data-find] input").focus(),
  j: () => $("[data-key=j]")?.click(),
  a: () => { for (const tile of $$("[data-grid=faces] .tile, [data-grid=stacks] .tile")) tick(tile, true); showBar(); },
  Escape: clearTicks,
};
["/", "/questions", "/people", "/photos", "/unknown"].forEach((address, place) => (keys[place + 1] = () => location.assign(address)));

document.addEventListener("keydown", (event) => {
  const writing = event.target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !writing) {
    event.preventDefault();
    return event.shiftKey ? acts.redo() : acts.undo();
  }
  if (writing || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  const item = event.target.closest("[data-grid] [data-focus]");
  if (event.key.startsWith("Arrow") || (item && (event.key === "Home" || event.key === "End"))) {
    if (!focusable().length) return;
    event.preventDefault();
    const next = walk(event.key, item);
    focusItem(next);
    if (event.shiftKey && tileOf(next)) tickUpTo(tileOf(next), true);
    return;
  }
  const tile = tileOf(item);
  if (tile && (tile.dataset.face || tile.dataset.stack) && (event.key === " " || (event.key === "Enter" && tile.dataset.face))) {
    event.preventDefault();
    return tickUpTo(tile, event.shiftKey);
  }
  if (view === "questions" && !event.repeat) {
    const reply = { y: "same", n: "different", s: "skip" }[event.key.toLowerCase()];
    if (reply) { event.preventDefault(); return quiz.reply(reply); }
  }
  if (view === "photo" && event.key === "b") return $("[data-boxes]")?.click();
  if (Object.hasOwn(keys, event.key)) { event.preventDefault(); keys[event.key](); }
});

// ---- begin

function begin(root) {
  beginNames(root);
  for (const sentinel of $$(".sentinel[data-more]", root)) watcher.observe(sentinel);
  for (const section of $$("[data-load]", root)) load(section);
  const first = focusable()[0];
  if (first) first.tabIndex = 0;
  lastTicked = null;
  showBar();
}

begin(document);
const find = $("[data-find] input");
const found = complete(find, $("#found"), { pick: (person) => location.assign(`/people/${person.id}`) });
find.form.addEventListener("submit", (event) => {
  event.preventDefault();
  event.stopPropagation();
  if (found.first()) location.assign(`/people/${found.first().id}`);
});
const left = sessionStorage.getItem("toast");
if (left) {
  sessionStorage.removeItem("toast");
  toast(left, { undo: true });
}
if ($("#work").dataset.running === "yes") watch();
