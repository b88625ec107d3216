// The dashboard: who is signed in, and which page the address names.

import { call, json, session, setSession } from "./net.js";
import { announce, find, h, refreshTimes, setText, toast } from "./dom.js";
import { requests } from "./list.js";
import { request } from "./request.js";
import { overview } from "./overview.js";
import { compose } from "./compose.js";

const main = find("main");

// The page in sight: its name, what it is about, and how it is told of a new query, and left.
let current = null;
let isFirst = true;

// What the address names: #/requests/RID?status=failed is the page, what it is about, and the query.
function named() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [name, about] = path.split("/");
  const given = new URLSearchParams(query ?? "");
  if (name === "requests" && about) return { name: "request", view: request, about: safely(about), query: given };
  const pages = { requests, overview, new: compose };
  const known = Object.hasOwn(pages, name) ? name : "requests";
  return { name: known, view: pages[known], about: "", query: given };
}

function safely(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Writes the query into the address, without another entry in the history.
function replace(query) {
  const text = query.toString().replaceAll("%2F", "/").replaceAll("%2C", ",").replaceAll("%3A", ":");
  const path = location.hash.split("?")[0] || "#/requests";
  history.replaceState(null, "", text ? `${path}?${text}` : path);
}

function title(text) {
  document.title = `${text} · bgrs-server`;
}

function show() {
  if (!session) return;
  const { name, view, about, query } = named();
  if (current?.name === name && current.about === about) {
    current.view.update?.(query);
    return;
  }
  current?.view.leave?.();
  const was = current;
  current = { name, about, view: {} };
  const mine = current;
  document.body.dataset.route = name;
  for (const link of document.querySelectorAll("#nav a")) {
    const isIt = link.id === `nav-${name === "request" ? "requests" : name}`;
    if (isIt) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  main.setAttribute("aria-busy", "true");
  scrollTo(0, 0);
  const focused = isFirst && !was;
  isFirst = false;
  // The page has something to show.
  const ready = () => {
    if (current !== mine || !main.hasAttribute("aria-busy")) return;
    main.removeAttribute("aria-busy");
    if (!focused) main.querySelector("h1")?.focus({ preventScroll: true });
  };
  current.view = view({ main, about, query, ready, replace, title }) ?? {};
}

function showUser() {
  const name = session.login ?? `user ${session.user_id}`;
  const rights = `${session.is_admin ? " · administrator" : ""}${session.read_only ? " · may only look" : ""}`;
  setText(find("who"), name + rights);
  find("sign-out").hidden = false;
  find("nav-overview").hidden = !session.is_admin;
}

const same = (one, other) => one && one.user_id === other.user_id && one.source === other.source;

function signIn() {
  const dialog = find("sign-in");
  if (dialog.open) return;
  isFirst = false;
  if (find("confirm").open) find("confirm").close();
  find("sign-in-password").value = "";
  dialog.showModal();
  find(find("sign-in-login").value ? "sign-in-password" : "sign-in-login").focus();
}

async function signedIn(known) {
  const before = session;
  setSession(known);
  showUser();
  find("sign-in").close();
  // What was being written is kept; everything else is asked for anew.
  if (same(before, known) && current?.name === "new") return;
  current?.view.leave?.();
  current = null;
  show();
}

async function submit(event) {
  event.preventDefault();
  const [login, password, error, button] = ["login", "password", "error", "submit"].map((id) => find(`sign-in-${id}`));
  button.disabled = true;
  error.hidden = true;
  try {
    const body = JSON.stringify({ login: login.value, password: password.value });
    await call("session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const known = await json("session");
    password.value = "";
    await signedIn(known);
    announce("Signed in.");
  } catch (failure) {
    setText(error, failure.message);
    error.hidden = false;
    password.select();
  }
  button.disabled = false;
}

async function signOut() {
  try {
    await call("session", { method: "DELETE" });
  } catch (failure) {
    if (failure.status !== 401) return toast(failure.message);
  }
  // Nothing of what was seen is left in the page.
  history.replaceState(null, "", "#/requests");
  location.reload();
}

async function start() {
  try {
    setSession(await json("session"));
  } catch (failure) {
    if (failure.status === 401) return signIn();
    const again = h("button", { type: "button", onclick: () => location.reload() }, "Try again");
    return main.replaceChildren(h("h1", {}, "Not connected"), h("p", { class: "failed" }, failure.message), again);
  }
  showUser();
  show();
}

find("sign-in-form").addEventListener("submit", submit);
// There is nothing to see without a session: the dialog stays.
find("sign-in").addEventListener("cancel", (event) => event.preventDefault());
find("sign-in").addEventListener("close", () => {
  if (!session) signIn();
});
find("sign-out").addEventListener("click", signOut);
find("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
find("confirm-yes").addEventListener("click", () => find("confirm").close("yes"));
find("confirm-no").addEventListener("click", () => find("confirm").close("no"));
window.addEventListener("signed-out", signIn);
window.addEventListener("hashchange", show);
history.scrollRestoration = "manual";
setInterval(refreshTimes, 5000);
start();
