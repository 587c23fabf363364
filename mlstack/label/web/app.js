// The labeling page: one key is one label. The next image shows at once; saving happens behind it.

import { drawClasses, Finder } from "./classes.js";
import { Gallery } from "./gallery.js";
import { Outbox } from "./outbox.js";
import { fit, forget, prefetch } from "./picture.js";

const AHEAD = 6;
const PAUSE_S = 60; // longer looks are breaks and do not count as work
const $ = (id) => document.getElementById(id);

const state = {
  annotator: "",
  classes: [],
  counts: { total: 0, labeled: 0, remaining: 0, skipped: 0, classes: {} },
  queue: [], // items to come; the first one is shown unless we look back
  trail: [], // answered items of this session: { item, label } (label null: skipped)
  back: 0, // how many steps we look back into the trail
  revisits: false, // the one we look back at came from the gallery
  actions: [], // for undo: { kind, path, before }
  pace: [], // seconds of the latest answers
  since: performance.now(),
  again: false,
  empty: false, // the server has nothing more for us
};

let outbox;
let gallery;
let finder;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let room = { width: 0, height: 0 }; // of the frame; measured when it changes, not at each image
const resize = new ResizeObserver(([{ contentRect }]) => {
  room = contentRect;
  const image = $("frame").querySelector("img");
  if (image) fit(image, room);
});

// ---- what is shown ------------------------------------------------------------------------

function shownItem() {
  if (state.back) return state.trail[state.trail.length - state.back].item;
  return state.queue[0];
}

function show() {
  const item = shownItem();
  const frame = $("frame");
  $("message").hidden = true;
  $("path").textContent = $("path").title = item?.path ?? "";
  drawGiven();
  if (!item) {
    frame.replaceChildren();
    showEmpty();
  } else {
    const entry = prefetch(item.image);
    if (entry.ok) place(entry.image, item);
    else wait(entry, item);
  }
  state.since = performance.now();
  for (const next of state.queue.slice(0, AHEAD)) prefetch(next.image);
  drawCounts();
  drawButtons();
}

function place(image, item) {
  image.alt = item.path;
  fit(image, room);
  $("frame").replaceChildren(image);
}

async function wait(entry, item) {
  $("frame").replaceChildren();
  await entry.ready;
  if (shownItem()?.path !== item.path) return;
  if (entry.ok) place(entry.image, item);
  else {
    forget(item.image); // another look may find it again
    say("This image cannot be shown", "The file is damaged or gone; skip it.");
  }
  state.since = performance.now();
}

function showEmpty() {
  if (!state.empty) {
    say("Loading", "");
    return;
  }
  const { labeled, skipped } = state.counts;
  const button = skipped ? `Go through the ${skipped} skipped` : "";
  say("All done", `${labeled} images are labeled. To train on them, type: mlstack label export`, button);
}

function say(title, text, button = "") {
  const message = $("message");
  message.hidden = false;
  message.querySelector("h2").textContent = title;
  message.querySelector("p").textContent = text;
  const action = message.querySelector("button");
  action.hidden = !button;
  action.textContent = button;
}

function drawGiven() {
  const given = $("given");
  const step = state.back ? state.trail[state.trail.length - state.back] : null;
  given.hidden = !step;
  if (step) given.textContent = step.label === null ? "skipped" : `labeled ${step.label}`;
  for (const button of $("classes").children) {
    button.setAttribute("aria-pressed", String(step?.label === button.dataset.label));
  }
}

function drawButtons() {
  const idle = !shownItem();
  for (const button of $("classes").children) button.disabled = idle;
  $("skip").disabled = idle;
  $("skip").firstElementChild.textContent = state.back ? "Forward" : "Skip";
  $("previous").disabled = state.back >= state.trail.length;
}

function drawCounts() {
  const { total, labeled, remaining, classes } = state.counts;
  $("done").textContent = labeled.toLocaleString("en");
  $("look").hidden = !labeled;
  $("total").textContent = total.toLocaleString("en");
  $("bar").style.transform = `scaleX(${total ? labeled / total : 0})`;
  const most = Math.max(1, ...Object.values(classes));
  for (const button of $("classes").children) {
    const count = classes[button.dataset.label] ?? 0;
    button.querySelector(".count").textContent = count.toLocaleString("en");
    button.querySelector(".share").style.transform = `scaleX(${count / most})`;
  }
  const enough = state.pace.length >= 3;
  const mean = state.pace.reduce((sum, seconds) => sum + seconds, 0) / (state.pace.length || 1);
  $("speed").textContent = enough ? `${Math.round(60 / Math.max(mean, 0.05))} / min` : "";
  $("left").textContent = !remaining ? "" : enough ? `${duration(remaining * mean)} left` : `${remaining} to go`;
}

function duration(seconds) {
  if (seconds < 60) return "< 1 min";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// After the new image is painted: nobody waits for the old ones.
function drawStrip() {
  cancelAnimationFrame(state.stripSoon);
  state.stripSoon = requestAnimationFrame(() => setTimeout(redrawStrip));
}

function redrawStrip() {
  const strip = $("strip");
  strip.replaceChildren(
    ...state.trail.slice(-12).map((step, position, shown) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      const image = document.createElement("img");
      const name = document.createElement("span");
      image.src = `${step.item.image}?small=1`;
      image.alt = "";
      name.textContent = step.label ?? "skipped";
      button.type = "button";
      button.title = step.item.path;
      button.setAttribute("aria-label", `${step.item.path}: ${name.textContent}`);
      button.classList.toggle("skipped", step.label === null);
      const back = shown.length - position;
      button.setAttribute("aria-current", String(state.back === back));
      button.addEventListener("click", () => lookBack(back));
      button.append(image, name);
      entry.append(button);
      return entry;
    }),
  );
  strip.scrollLeft = strip.scrollWidth;
}

function flash(label) {
  if (calm.matches) return;
  const button = [...$("classes").children].find((each) => each.dataset.label === label);
  button?.animate([{ background: "var(--accent)", color: "var(--on-accent)" }, {}], 400);
}

// ---- what a person does -------------------------------------------------------------------

function answer(label) {
  const item = shownItem();
  if (!item) return;
  const seconds = (performance.now() - state.since) / 1000;
  const body = { path: item.path, annotator: state.annotator, seconds: Math.round(seconds * 100) / 100 };
  if (state.back) {
    const step = state.trail[state.trail.length - state.back];
    if (step.label === label) return lookBack(state.back - 1);
    state.actions.push({ path: item.path, before: step.label, again: true });
    count(step.label, label);
    step.label = label;
    state.back -= 1;
  } else {
    state.queue.shift();
    state.trail.push({ item, label });
    state.actions.push({ path: item.path, before: null, again: false });
    state.counts.remaining = Math.max(0, state.counts.remaining - 1);
    count(null, label);
    if (seconds < PAUSE_S) state.pace = [...state.pace, seconds].slice(-30);
  }
  if (label === null) outbox.add("/api/skip", body);
  else {
    flash(label);
    outbox.add("/api/label", { ...body, label });
  }
  $("spoken").textContent = label === null ? "skipped" : `labeled ${label}`;
  show();
  drawStrip();
  returnToGallery();
  if (state.queue.length < 3) refill();
}

function count(before, after) {
  const { classes } = state.counts;
  if (before !== null) classes[before] = (classes[before] ?? 1) - 1;
  if (after !== null) classes[after] = (classes[after] ?? 0) + 1;
  state.counts.labeled += (after !== null) - (before !== null);
}

function undo() {
  const action = state.actions.pop();
  state.revisits = false;
  if (!action) {
    outbox.add("/api/undo", { annotator: state.annotator }); // of an earlier session: the server knows
    return;
  }
  const place = state.trail.findLastIndex((step) => step.item.path === action.path);
  const step = state.trail[place];
  count(step.label, action.before);
  if (action.again) {
    step.label = action.before;
    state.back = state.trail.length - place;
  } else {
    state.trail.splice(place, 1);
    state.queue.unshift(step.item);
    state.counts.remaining += 1;
    state.pace.pop();
    state.back = 0;
  }
  // By its path: another tab of the same person may have answered since.
  if (!outbox.dropLast(action.path)) outbox.add("/api/undo", { annotator: state.annotator, path: action.path });
  $("spoken").textContent = "taken back";
  show();
  drawStrip();
}

function skip() {
  if (state.back) lookBack(state.back - 1);
  else answer(null);
}

function lookBack(steps) {
  if (steps < 0 || steps > state.trail.length) return;
  state.back = steps;
  show();
  drawStrip();
  returnToGallery();
}

// ---- what is labeled already --------------------------------------------------------------

function revisit(item) {
  state.trail = state.trail.filter((step) => step.item.path !== item.path);
  state.trail.push({ item, label: item.label });
  state.revisits = true;
  lookBack(1);
}

function returnToGallery() {
  if (!state.revisits || state.back === 1) return;
  state.revisits = false;
  if (state.back) return; // they went further back from there
  const { item, label } = state.trail.at(-1);
  gallery.reopen(item, label);
}

async function askLabeled(query) {
  await outbox.flush();
  return ask(`/api/labeled?${new URLSearchParams({ ...query, annotator: state.annotator })}`);
}

// ---- the server ---------------------------------------------------------------------------

// Items that the server names may have been answered here already, with the answer on its way.
function take(items) {
  const seen = new Set([...state.queue, ...state.trail.map((step) => step.item)].map((item) => item.path));
  for (const { body } of outbox.waiting) seen.add(body.path);
  const fresh = items.filter((item) => !seen.has(item.path));
  const wasEmpty = !shownItem();
  state.queue.push(...fresh);
  for (const item of fresh) prefetch(item.image);
  if (wasEmpty && fresh.length) show();
}

function received({ content, refused }, url, body) {
  if (refused) {
    alarm(`Not saved: ${refused}`, false);
    return;
  }
  if (!outbox.waiting.length) {
    state.counts = content.counts;
    drawCounts();
  }
  if (url === "/api/undo" && content.undone) bringBack(content);
  take(content.items);
  if (!content.items.length && !outbox.waiting.length) refill();
}

// The undo of an answer from before this page was opened.
function bringBack({ undone, items }) {
  const here = state.queue.some((item) => item.path === undone.path);
  const known = state.trail.some((step) => step.item.path === undone.path);
  const item = items.find((each) => each.path === undone.path);
  if (here || known || !item) return;
  state.queue.unshift(item);
  state.back = 0;
  show();
}

async function refill() {
  const { again } = state;
  state.again = false; // one pass; who skips an image twice is asked again
  const query = new URLSearchParams({ annotator: state.annotator, n: again ? 50 : AHEAD + 2 });
  if (again) query.set("again", "1");
  let content;
  try {
    content = await ask(`/api/next?${query}`);
  } catch {
    alarm("The server does not answer; is mlstack label still running?");
    clearTimeout(state.retry);
    state.retry = setTimeout(refill, 2000);
    return;
  }
  if (!outbox.failures && $("alarm").dataset.passing === "true") $("alarm").hidden = true;
  if (again) { // skipped ones are known here, and wanted again
    const paths = new Set(content.items.map((item) => item.path));
    state.trail = state.trail.filter((step) => !(step.label === null && paths.has(step.item.path)));
    state.actions = state.actions.filter((action) => !paths.has(action.path));
  }
  take(content.items);
  if (!outbox.waiting.length) state.counts = content.counts;
  state.empty = !content.items.length && !outbox.waiting.length && !state.queue.length;
  if (!shownItem()) show();
  else drawCounts();
}

async function ask(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function drawSaved({ unsaved, failing, problem }) {
  const saved = $("saved");
  saved.dataset.state = failing ? "failing" : unsaved ? "saving" : "saved";
  saved.textContent = failing ? `${unsaved} unsaved` : unsaved ? `saving ${unsaved}` : "saved";
  if (failing) alarm(`${problem} ${unsaved} answer${unsaved > 1 ? "s are" : " is"} kept in this browser and will be sent again.`);
  else if ($("alarm").dataset.passing === "true") $("alarm").hidden = true;
}

// What passes by itself goes away by itself; a refusal stays until the page is loaded anew.
function alarm(text, passing = true) {
  $("alarm").textContent = text;
  $("alarm").dataset.passing = String(passing);
  $("alarm").hidden = false;
}

// ---- the keyboard -------------------------------------------------------------------------

function pressed(event) {
  const { target } = event;
  const isFinding = target.id === "find"; // where letters and digits are part of a name
  if (gallery.isOpen || event.altKey || event.metaKey || target.closest("dialog")) return;
  if (isFinding && (target.value || event.isComposing)) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey) {
    if (key === "z") act(event, undo);
    return;
  }
  const named = !isFinding && state.classes.find((each) => each.keys.includes(key));
  if (named) act(event, () => event.repeat || answer(named.name));
  else if ((key === "u" && !isFinding) || key === "backspace") act(event, undo);
  else if (key === "arrowright") act(event, skip);
  else if (key === " " && !target.closest("button")) act(event, () => event.repeat || skip());
  else if (key === "arrowleft") act(event, () => lookBack(state.back + 1));
  else if (key === "/" && finder.isUseful) act(event, () => $("find").focus());
}

// A button that was clicked with the mouse must not get the next space; one reached by Tab must.
function clicked(event) {
  if (event.detail) event.target.closest("aside button, #strip button")?.blur();
}

function act(event, deed) {
  event.preventDefault();
  deed();
}

// ---- start --------------------------------------------------------------------------------

// As the server takes it: of 64 characters at most, and not the name of `label import`.
function askName(name) {
  const chosen = prompt("Who labels?", name)?.replace(/\p{C}/gu, "").trim() ?? "";
  return chosen === "import" ? "" : chosen.slice(0, 64);
}

function chooseName(name) {
  const chosen = askName(name);
  if (!chosen || chosen === state.annotator) return;
  localStorage.setItem(state.nameKey, chosen);
  location.reload();
}

async function start() {
  const link = new URL(location);
  const asked = link.searchParams.get("annotator");
  link.searchParams.delete("token"); // the cookie has it now; keep it out of the history
  history.replaceState(null, "", link);
  const project = await ask("/api/project");
  // A name chosen here holds as long as the server is started for the same person.
  state.nameKey = `mlstack.annotator.${project.id}.${project.annotator}`;
  if (project.shared && !asked && !localStorage.getItem(state.nameKey)) {
    localStorage.setItem(state.nameKey, askName("") || "guest");
  }
  state.annotator = asked ?? localStorage.getItem(state.nameKey) ?? project.annotator;
  state.classes = project.classes;
  state.counts = project.counts;
  document.title = `${project.name} · label`;
  $("project").textContent = project.name;
  $("who").textContent = state.annotator;
  drawClasses(state.classes, answer);
  outbox = new Outbox(`mlstack.outbox.${project.id}`, received, drawSaved);
  $("undo").addEventListener("click", undo);
  $("previous").addEventListener("click", () => lookBack(state.back + 1));
  $("skip").addEventListener("click", skip);
  gallery = new Gallery(askLabeled, revisit);
  $("look").addEventListener("click", () => gallery.open(state.counts.classes));
  $("who").addEventListener("click", () => chooseName(state.annotator));
  $("message").querySelector("button").addEventListener("click", () => {
    state.again = true;
    state.empty = false;
    refill();
  });
  finder = new Finder(answer);
  window.addEventListener("keydown", pressed);
  window.addEventListener("click", clicked);
  window.addEventListener("beforeunload", (event) => {
    if (outbox.waiting.length) event.preventDefault();
  });
  resize.observe($("frame"));
  await outbox.flush();
  await refill();
  show();
}

start().catch((error) => {
  say("The server does not answer", "Start it with: mlstack label");
  alarm(String(error.message ?? error));
});
