// What a result looks like, by its type. Nothing of it is run: HTML is text, images are images, a PDF is shown from its
// own URL, whose answer the server has put into a sandbox.

import { bytes, h, setText } from "./dom.js";
import { call } from "./net.js";

const MOST = 1 << 20; // bytes that are read
const CSV_ROWS = 500;
const CSV_COLUMNS = 100;
const CHILDREN = 200; // of a node of a tree at once

const IMAGES = ["png", "jpeg", "gif", "webp", "avif", "bmp", "apng", "svg+xml", "x-icon", "vnd.microsoft.icon"];
const TEXTS = ["xml", "javascript", "x-javascript", "x-ndjson", "jsonl", "yaml", "x-yaml", "toml", "sql", "graphql"];

export function kindOf(type) {
  const essence = (type ?? "").split(";")[0].trim().toLowerCase();
  const [top, sub = ""] = essence.split("/");
  if (essence === "application/json" || essence === "text/json" || sub.endsWith("+json")) return "json";
  if (essence === "text/csv") return "csv";
  if (top === "image" && IMAGES.includes(sub)) return "image";
  if (essence === "application/pdf") return "pdf";
  const isForm = sub === "x-www-form-urlencoded";
  const isText = top === "text" || (top === "application" && (TEXTS.includes(sub) || isForm)) || sub.endsWith("+xml");
  return isText ? "text" : "download";
}

// The first bytes of an answer; `cut`: there are more.
export async function read(answer, signal) {
  const parts = [];
  let length = 0;
  let cut = false;
  const reader = answer.body?.getReader();
  while (reader && !cut) {
    try {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      if (length > MOST) cut = true;
    } catch (error) {
      // The first part of what is compressed ends too early.
      if (signal?.aborted || !length) throw error;
      cut = true;
    }
  }
  if (cut) reader.cancel().catch(() => {});
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return { bytes: whole.subarray(0, MOST), cut };
}

function decode(content, type) {
  const charset = /charset\s*=\s*"?([^";\s]+)/i.exec(type ?? "")?.[1] ?? "utf-8";
  try {
    return new TextDecoder(charset).decode(content);
  } catch {
    return new TextDecoder().decode(content);
  }
}

// A number that JavaScript would round.
class Digits {
  constructor(text) {
    this.text = text;
  }
}

function parseJson(text) {
  return JSON.parse(text, (_, value, context) => {
    const rounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && context?.source ? new Digits(context.source) : value;
  });
}

function leaf(value) {
  if (value instanceof Digits) return h("span", { class: "value number" }, value.text);
  const type = value === null ? "null" : typeof value;
  return h("span", { class: `value ${type}` }, JSON.stringify(value));
}

function branch(label, value, isOpen) {
  const isList = Array.isArray(value);
  const entries = isList ? value.map((one, at) => [at, one]) : Object.entries(value);
  const size = isList ? `[${entries.length}]` : `{${entries.length}}`;
  const list = h("ul");
  const more = h("button", { type: "button" });
  const fill = () => {
    const from = list.childElementCount;
    list.append(...entries.slice(from, from + CHILDREN).map(([key, one]) => h("li", {}, node(String(key), one))));
    const rest = entries.length - list.childElementCount;
    setText(more, `Show more (${rest} are left)`);
    if (rest > 0) list.after(more);
    else more.remove();
  };
  more.addEventListener("click", fill);
  const shown = h("details", {}, h("summary", {}, label, h("span", { class: "soft" }, size)), list);
  shown.addEventListener("toggle", () => shown.open && !list.childElementCount && fill());
  if (isOpen) {
    fill();
    shown.open = true;
  }
  return shown;
}

function node(key, value, isOpen = false) {
  const label = key === null ? "" : [h("span", { class: "key" }, key), ": "];
  const isBranch = value !== null && typeof value === "object" && !(value instanceof Digits);
  if (isBranch && Object.keys(value).length) return branch(label, value, isOpen);
  if (isBranch) return h("span", {}, label, h("span", { class: "value" }, Array.isArray(value) ? "[]" : "{}"));
  return h("span", {}, label, leaf(value));
}

function pre(text) {
  return h("pre", { tabindex: 0, role: "region", "aria-label": "Text" }, h("code", {}, text));
}

function tree(text) {
  const value = parseJson(text);
  const shown = h("div", { class: "tree" }, node(null, value, true));
  const other = pre(text);
  const change = h("button", { id: "preview-switch", type: "button" }, "As text");
  change.addEventListener("click", () => {
    const isTree = shown.isConnected;
    (isTree ? shown : other).replaceWith(isTree ? other : shown);
    setText(change, isTree ? "As a tree" : "As text");
  });
  return [h("p", {}, change), shown];
}

// The records of a CSV (RFC 4180), so many at most.
export function records(text, most) {
  const all = [];
  let [record, field, quoted, at] = [[], "", false, 0];
  const end = () => {
    record.push(field);
    all.push(record);
    [record, field] = [[], ""];
  };
  for (; at < text.length && all.length < most; at++) {
    const c = text[at];
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[at + 1] === '"') field += text[++at];
      else quoted = false;
    } else if (c === '"' && field === "") quoted = true;
    else if (c === ",") {
      record.push(field);
      field = "";
    } else if (c === "\n") end();
    else if (c !== "\r" || text[at + 1] !== "\n") field += c;
  }
  if (all.length < most && (field !== "" || record.length)) end();
  return { all, more: at < text.length };
}

function table(text, cut) {
  const { all, more } = records(text.replace(/^\uFEFF/, ""), CSV_ROWS + 1);
  // The last one is broken off.
  if (cut && !more) all.pop();
  const [head = [], ...rows] = all.map((record) => record.slice(0, CSV_COLUMNS));
  const made = h(
    "table",
    {},
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value) => h("td", {}, value))))),
  );
  const notes = [
    more || cut ? `Only the first ${rows.length} rows are shown.` : "",
    all.some((record) => record.length === CSV_COLUMNS) ? `Only the first ${CSV_COLUMNS} columns are shown.` : "",
  ];
  const shown = h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "The result as a table" }, made);
  return { kind: "csv", nodes: [shown], note: notes.filter(Boolean).join(" ") };
}

// What the text of an answer is shown as.
export function texts(type, content, cut) {
  const kind = kindOf(type);
  const text = decode(content, type);
  const note = cut ? "Only the first 1 MiB is shown." : "";
  if (kind === "csv") return table(text, cut);
  if (kind === "json" && !cut) {
    try {
      return { kind, nodes: tree(text), note };
    } catch {
      return { kind: "text", nodes: [pre(text)], note: "It says that it is JSON and is not: here is its text." };
    }
  }
  return { kind: kind === "json" ? kind : "text", nodes: [pre(text)], note };
}

// Looks at a result's file: which kind it is, what shows it, and what is to be said of it.
export async function preview({ href, path, type, size }, signal) {
  const kind = kindOf(type);
  if (size === 0) return { kind: "empty", nodes: [h("p", {}, "The result is empty.")], note: "" };
  if (kind === "image") {
    const image = h("img", { src: href, alt: "The result, an image" });
    const bad = () => image.replaceWith(h("p", {}, "The browser cannot show this image; download it."));
    image.addEventListener("error", bad, { once: true });
    return { kind, nodes: [image], note: "" };
  }
  if (kind === "pdf") {
    const frame = h("iframe", { src: href, title: "The result, a PDF" });
    return { kind, nodes: [frame], note: "Where the browser does not show it here, download it." };
  }
  if (kind === "download") {
    const what = `There is no preview of ${type ? type.split(";")[0] : "this type"}; download it (${bytes(size)}).`;
    return { kind, nodes: [h("p", {}, what)], note: "" };
  }
  const answer = await call(path, { headers: { Range: `bytes=0-${MOST - 1}` }, signal });
  const { bytes: content, cut } = await read(answer, signal);
  return texts(type, content, cut || size > MOST);
}
