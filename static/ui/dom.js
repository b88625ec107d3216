// Elements, and how times, sizes and states are written. What was received is put in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

export const h = (name, properties = {}, ...children) => fill(document.createElement(name), properties, children);

export const svg = (name, properties = {}, ...children) =>
  fill(document.createElementNS(SVG, name), properties, children);

export const find = (id) => document.getElementById(id);

// Only what differs is written: a screen reader and the layout are left alone otherwise.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// How far the server's clock is ahead of this machine's, in milliseconds.
export const clock = { ahead: 0 };

export const now = () => Date.now() + clock.ahead;

// The moment that `2026-11-25 01:00:00` names.
export const moment = (text) => new Date(`${text.replace(" ", "T")}Z`);

const UNITS = [
  ["year", 365 * 86400],
  ["month", 30 * 86400],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const WORDS = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function relative(date) {
  const seconds = (date.getTime() - now()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return WORDS.format(Math.trunc(seconds / length), unit);
}

// A time in words, with the exact one at hand.
export function time(text, properties = {}) {
  const node = h("time", properties);
  setTime(node, text);
  return node;
}

export function setTime(node, text) {
  if (node.dataset.at === text) return;
  node.dataset.at = text;
  const date = moment(text);
  node.dateTime = date.toISOString();
  node.title = `${text} UTC (${date.toLocaleString()} here)`;
  setText(node, relative(date));
}

// The same with the exact one in sight.
export const exact = (text) => h("span", {}, time(text), " ", h("span", { class: "soft" }, `${text} UTC`));

export function refreshTimes() {
  for (const node of document.querySelectorAll("time[data-at]")) setText(node, relative(moment(node.dataset.at)));
}

export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  const pair = (one, name, many, other) =>
    `${Math.floor(seconds / one)} ${name} ${Math.floor((seconds % one) / many)} ${other}`;
  if (seconds < 3600) return pair(60, "min", 1, "s");
  return seconds < 86400 ? pair(3600, "h", 60, "min") : pair(86400, "d", 3600, "h");
}

// From one time to another; they are told in whole seconds.
export function between(from, to) {
  const milliseconds = moment(to) - moment(from);
  return milliseconds < 1000 ? "less than 1 s" : duration(milliseconds);
}

export function bytes(count) {
  if (count < 1024) return count === 1 ? "1 byte" : `${count} bytes`;
  const power = Math.min(Math.floor(Math.log2(count) / 10), 5);
  return `${(count / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB", "TiB", "PiB"][power]}`;
}

export const hasEnded = (request) => ["finished", "failed", "cancelled"].includes(request.status_name);

// An answer of the API that is an error is shown as one.
export function setBadge(node, request, always = false) {
  const isError = Number(request.status) >= 400;
  node.dataset.status = request.status_name;
  node.classList.toggle("bad", isError);
  const more = request.status && (always || isError) ? ` ${request.status}` : "";
  setText(node, request.status_name + more);
}

export const called = (request) => `${request.method ?? "GET"} ${request.name}`;

// For screen readers: what has changed elsewhere on the page.
export function announce(text) {
  setText(find("announce"), text);
}

let hiding;

// A few words about what was just done.
export function toast(text) {
  const node = find("toast");
  setText(node, text);
  node.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    node.classList.remove("shown");
    setText(node, "");
  }, 6000);
}

// Whether it is really to be done.
export function ask(text, yes) {
  const dialog = find("confirm");
  setText(find("confirm-text"), text);
  setText(find("confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  find("confirm-no").focus();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

// Puts a text where it can be pasted; false where the browser allows that only on a page that came over TLS.
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
    return true;
  } catch {
    if (shown) getSelection().selectAllChildren(shown);
    toast("This browser does not let the page copy here: it is selected, copy it with the keyboard.");
    return false;
  }
}
