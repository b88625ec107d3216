// What the list is filtered by: in the address, in the form, and in what the server is asked for.

import { session } from "./net.js";
import { find, h, moment, now } from "./dom.js";

const STATES = ["queued", "running", "retrying", "finished", "failed", "cancelled"];
const SPANS = { hour: 3600e3, day: 86400e3, week: 7 * 86400e3 };
const TYPING = 300;

const plain = (date) => date.toISOString().replace(/\.\d+Z$/, "Z");

function valid(text) {
  const date = new Date(text ?? "");
  return Number.isNaN(date.getTime()) ? null : date;
}

// What is filtered by, from the address.
export function filtersIn(query) {
  const [since, until] = [valid(query.get("since")), valid(query.get("until"))];
  const given = query.get("time") ?? "";
  const span = given in SPANS || given === "custom" ? given : since || until ? "custom" : "any";
  return {
    states: (query.get("status") ?? "").split(",").filter((state) => STATES.includes(state)),
    name: query.get("name") ?? "",
    user: session.is_admin ? (query.get("user") ?? "") : "",
    span,
    since: span === "custom" ? since : null,
    until: span === "custom" ? until : null,
  };
}

export function queryOf(filters) {
  const query = new URLSearchParams();
  if (filters.states.length) query.set("status", filters.states.join(","));
  if (filters.name) query.set("name", filters.name);
  if (filters.user) query.set("user", filters.user);
  if (filters.span !== "any") query.set("time", filters.span);
  if (filters.since) query.set("since", plain(filters.since));
  if (filters.until) query.set("until", plain(filters.until));
  return query;
}

const begins = (filters) => (filters.span in SPANS ? new Date(now() - SPANS[filters.span]) : filters.since);

// Where the server is asked for a page.
export function pageOf(filters, before, limit) {
  const query = new URLSearchParams({ verbose: "1", limit });
  if (filters.states.length) query.set("status", filters.states.join(","));
  if (filters.name) query.set("name", filters.name);
  if (session.is_admin) query.set("user_id", filters.user || "all");
  const since = begins(filters);
  if (since) query.set("since", plain(since));
  if (filters.until) query.set("until", plain(filters.until));
  if (before) query.set("before", before);
  return `../bgrs?${query}`;
}

export function matches(filters, row) {
  const created = moment(row.created_dt);
  const since = begins(filters);
  return (
    (!filters.states.length || filters.states.includes(row.status_name)) &&
    row.name.startsWith(filters.name) &&
    (!filters.user || row.user_id === filters.user) &&
    (!since || created >= new Date(plain(since))) &&
    (!filters.until || created < filters.until)
  );
}

export function filterForm(change) {
  const field = (text, input) => h("p", {}, h("label", { for: input.id }, text), input);
  const chips = STATES.map((state) =>
    h("label", { class: "chip" }, h("input", { type: "checkbox", id: `status-${state}`, value: state }), state),
  );
  const spans = [
    ["any", "any time"],
    ["hour", "the last hour"],
    ["day", "the last day"],
    ["week", "the last week"],
    ["custom", "from … to …"],
  ].map(([value, text]) => h("option", { value }, text));
  let typing;
  const changed = (event) => {
    clearTimeout(typing);
    typing = setTimeout(change, event.type === "input" && event.target.type === "text" ? TYPING : 0);
  };
  const text = { type: "text", autocomplete: "off", spellcheck: "false" };
  const name = { ...text, id: "filter-name", placeholder: "/v2.5/scans" };
  const user = { ...text, id: "filter-user", placeholder: "everybody", inputmode: "numeric" };
  return h(
    "form",
    { id: "filters", "aria-label": "Filters", oninput: changed, onsubmit: (event) => event.preventDefault() },
    h("fieldset", {}, h("legend", {}, "Status"), chips),
    field("Path begins with", h("input", name)),
    session.is_admin ? field("User id", h("input", user)) : null,
    field("Submitted", h("select", { id: "filter-time" }, spans)),
    field("From", h("input", { id: "filter-since", type: "datetime-local" })),
    field("To", h("input", { id: "filter-until", type: "datetime-local" })),
    h("p", {}, h("button", { id: "filter-clear", type: "button" }, "Clear filters")),
  );
}

// A moment as an input for local times has it.
function local(date) {
  if (!date) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

export function fillForm(filters) {
  for (const state of STATES) find(`status-${state}`).checked = filters.states.includes(state);
  const set = (id, value) => {
    const input = find(id);
    if (input && input.value !== value) input.value = value;
  };
  set("filter-name", filters.name);
  set("filter-user", filters.user);
  set("filter-time", filters.span);
  set("filter-since", local(filters.since));
  set("filter-until", local(filters.until));
  showForm(filters);
}

export function showForm(filters) {
  for (const id of ["filter-since", "filter-until"]) find(id).closest("p").hidden = filters.span !== "custom";
  find("filter-clear").hidden = !queryOf(filters).size;
}

export function readForm() {
  const span = find("filter-time").value;
  const custom = (id) => (span === "custom" ? valid(find(id).value) : null);
  return {
    states: STATES.filter((state) => find(`status-${state}`).checked),
    name: find("filter-name").value.trim(),
    user: find("filter-user")?.value.trim() ?? "",
    span,
    since: custom("filter-since"),
    until: custom("filter-until"),
  };
}
