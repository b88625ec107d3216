// A new request: which call, with what, in the background or not; and the answer.

import { json, root, send, session, signedOut } from "./net.js";
import { announce, duration, find, h, setText } from "./dom.js";
import { kindOf, read, texts } from "./preview.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
const WITH_BODY = ["POST", "PUT", "PATCH", "DELETE"];
const DEEP = 8;

let description = null; // the same for all pages of this visit

// What a reference leads to.
function resolved(node) {
  for (let steps = 0; node?.$ref && steps < DEEP; steps++) {
    const path = node.$ref.replace(/^#\//, "").split("/");
    node = path.reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], description);
  }
  return node ?? {};
}

// A value that fits a schema, of what it says of itself.
function example(schema, depth = 0) {
  schema = resolved(schema);
  if (depth > DEEP) return null;
  if (schema.examples?.length) return schema.examples[0];
  for (const key of ["example", "default", "const"]) if (schema[key] !== undefined) return schema[key];
  if (schema.enum) return schema.enum[0];
  if (schema.oneOf ?? schema.anyOf) return example((schema.oneOf ?? schema.anyOf)[0], depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => example(one, depth + 1)));
  const kind = [schema.type].flat()[0];
  if (kind === "array") return [example(schema.items, depth + 1)];
  if (kind === "object") {
    const pairs = Object.entries(schema.properties ?? {});
    const required = pairs.filter(([key]) => schema.required?.includes(key));
    const chosen = required.length ? required : pairs;
    return Object.fromEntries(chosen.map(([key, value]) => [key, example(value, depth + 1)]));
  }
  return { string: "text", integer: schema.minimum ?? 1, number: schema.minimum ?? 1, boolean: true }[kind] ?? null;
}

// The operations of the API, by their groups; not the server's own.
function operations() {
  const first = ["bgrs", "media", "healthz", "readyz", "openapi.json", "metrics", "ui"];
  const own = first.map((one) => `${session.mount ?? ""}/${one}`);
  const groups = new Map();
  for (const [path, item] of Object.entries(description.paths ?? {})) {
    if (own.some((one) => path === one || path.startsWith(`${one}/`))) continue;
    for (const method of METHODS.filter((one) => item[one.toLowerCase()])) {
      if (session.read_only && method !== "GET") continue;
      const operation = item[method.toLowerCase()];
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ method, path, item, operation });
    }
  }
  return groups;
}

function parameters({ item, operation }) {
  const all = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolved);
  // Where it runs is chosen below.
  return all.filter((one) => one.in === "path" || (one.in === "query" && one.name !== "bgrs"));
}

function parameterField(one) {
  const id = `param-${one.name}`;
  const schema = resolved(one.schema);
  const told = one.example ?? schema.example ?? schema.examples?.[0] ?? schema.default;
  const required = one.in === "path" || Boolean(one.required);
  const label = h("label", { for: id }, one.name, required ? " (required)" : "");
  const described = one.description ? `${id}-text` : undefined;
  const shared = { id, "data-param": one.name, "data-in": one.in, "aria-describedby": described };
  const options = schema.enum?.map((value) => h("option", { value }, String(value)));
  const input = options
    ? h("select", shared, required ? null : h("option", { value: "" }, "–"), options)
    : h("input", { ...shared, type: "text", required, autocomplete: "off", placeholder: told ?? "" });
  return h("p", {}, label, input, described ? h("span", { id: described, class: "soft" }, one.description) : null);
}

function bodyOf({ operation }) {
  const body = resolved(operation.requestBody);
  const [type, media] = Object.entries(body.content ?? {})[0] ?? [];
  if (!type) return { type: "", text: "" };
  const value = media.example ?? Object.values(media.examples ?? {})[0]?.value ?? example(media.schema);
  if (typeof value === "string") return { type, text: value };
  return { type, text: value === null || value === undefined ? "" : JSON.stringify(value, null, 2) };
}

// A path with another parameter, before the fragment that nobody sends.
function withParameter(target, name, value) {
  const [path] = target.split("#");
  return `${path}${path.includes("?") ? "&" : "?"}${name}=${value}`;
}

function field(id, text, input, more) {
  return h("p", { id: `${id}-field` }, h("label", { for: id }, text), input, more);
}

function form(submit, change) {
  const mode = (value, text, checked) => {
    const input = h("input", { type: "radio", name: "mode", id: `mode-${value}`, value, checked });
    return h("label", { class: "chip" }, input, text);
  };
  const methods = (session.read_only ? ["GET"] : METHODS).map((one) => h("option", { value: one }, one));
  const modes = session.read_only
    ? h("p", { id: "compose-read-only", class: "soft" }, "You may only look: with GET, answered in the foreground.")
    : h(
        "fieldset",
        {},
        h("legend", {}, "Where it runs"),
        mode("background", "in the background", true),
        mode("foreground", "in the foreground: wait for the answer", false),
      );
  const path = { id: "path", type: "text", placeholder: "/v2.5/users/me", autocomplete: "off", spellcheck: "false" };
  const operation = h("select", { id: "operation" }, h("option", { value: "" }, "Write the method and path yourself"));
  const type = { id: "body-type", type: "text", value: "application/json", autocomplete: "off" };
  return h(
    "form",
    { id: "compose", onsubmit: submit, onchange: change, oninput: change },
    field("operation", "Call", operation),
    field("method", "Method", h("select", { id: "method" }, methods)),
    field("path", "Path and query", h("input", path)),
    h("p", { id: "operation-text", class: "soft", hidden: true }),
    h("div", { id: "parameters" }),
    field("body", "Body", h("textarea", { id: "body", rows: 8, spellcheck: "false" })),
    field("body-type", "Content type of the body", h("input", type)),
    modes,
    h("p", {}, "It sends ", h("code", { id: "target" })),
    h("p", { id: "compose-error", class: "failed", role: "alert", hidden: true }),
    h(
      "p",
      { class: "actions" },
      h("button", { id: "send", type: "submit", class: "main" }, "Send"),
      h("button", { id: "stop", type: "button", hidden: true }, "Stop waiting"),
    ),
  );
}

// What an answer is shown as; pictures and the like are not kept here.
async function shown(answer, signal) {
  const type = answer.headers.get("Content-Type");
  const { bytes: content, cut } = await read(answer, signal);
  if (!content.length) return { kind: "none", nodes: [h("p", {}, "It has no body.")], note: "" };
  const kind = kindOf(type);
  if (["json", "csv", "text"].includes(kind)) return texts(type, content, cut);
  const what = type ? type.split(";")[0] : "a type that is not told";
  const text = `It is ${what}, and not shown here; make the call in the background to keep its result.`;
  return { kind: "download", nodes: [h("p", {}, text)], note: "" };
}

export function compose({ main, ready, title }) {
  title("New request");
  let chosen = null;
  let waiting = null;
  const known = new Map();

  const isBackground = () => Boolean(find("mode-background")?.checked);
  const method = () => chosen?.method ?? find("method").value;

  // Path and query, without word of where it runs.
  const written = () => {
    if (!chosen) return find("path").value.trim();
    let { path } = chosen;
    const query = new URLSearchParams();
    for (const input of document.querySelectorAll("#parameters [data-param]")) {
      const { param, in: place } = input.dataset;
      if (place === "path" && input.value) path = path.replaceAll(`{${param}}`, encodeURIComponent(input.value));
      else if (place === "query" && input.value) query.append(param, input.value);
    }
    return query.size ? `${path}?${query}` : path;
  };
  // Whoever has written the parameter themselves is not contradicted.
  const target = () => {
    const path = written();
    return /[?&]bgrs=/.test(path) ? path : withParameter(path, "bgrs", isBackground() ? "yes" : "no");
  };

  const choose = () => {
    chosen = known.get(find("operation").value) ?? null;
    find("method-field").hidden = find("path-field").hidden = Boolean(chosen);
    const text = chosen?.operation.description ?? chosen?.operation.summary ?? "";
    setText(find("operation-text"), text);
    find("operation-text").hidden = !text;
    find("parameters").replaceChildren(...(chosen ? parameters(chosen).map(parameterField) : []));
    const body = chosen ? bodyOf(chosen) : { type: "application/json", text: "" };
    find("body").value = body.text;
    find("body-type").value = body.type || "application/json";
  };
  const draw = () => {
    const hasBody = chosen ? Boolean(bodyOf(chosen).type) : WITH_BODY.includes(method());
    find("body-field").hidden = find("body-type-field").hidden = !hasBody;
    setText(find("target"), `${method()} ${target()}`);
  };
  const change = (event) => {
    if (event.target.id === "operation") choose();
    draw();
  };

  const fail = (text) => {
    setText(find("compose-error"), text);
    find("compose-error").hidden = !text;
  };

  const showAnswer = async (answer, milliseconds, signal) => {
    const place = find("answer");
    const location = answer.headers.get("Location") ?? "";
    const rid = answer.status === 202 ? /\/bgrs\/([0-9a-f]{32})$/.exec(location)?.[1] : null;
    const { kind, nodes, note } = await shown(answer, signal);
    place.dataset.kind = kind;
    place.replaceChildren(
      h("h2", { id: "answer-title", tabindex: -1 }, "The answer"),
      h(
        "p",
        {},
        h("strong", { id: "answer-status" }, `${answer.status} ${answer.statusText}`.trim()),
        " after ",
        h("span", { id: "answer-time" }, duration(milliseconds)),
        rid ? [" ", h("a", { id: "follow", class: "button", href: `#/requests/${rid}` }, "Follow it")] : null,
      ),
      note ? h("p", { class: "soft" }, note) : "",
      h("div", { id: "answer-body" }, nodes),
    );
    place.hidden = false;
    find(rid ? "follow" : "answer-title").focus();
    announce(`Answered: ${answer.status}.`);
  };

  const submit = async (event) => {
    event.preventDefault();
    if (waiting) return;
    fail("");
    if (!written().startsWith("/")) return fail("Write the path as it stands in the API, beginning with /.");
    const body = find("body-field").hidden ? "" : find("body").value;
    waiting = new AbortController();
    const { signal } = waiting;
    const options = { method: method(), signal, headers: {} };
    if (body) {
      options.body = body;
      options.headers["Content-Type"] = find("body-type").value.trim() || "application/json";
    }
    find("answer").hidden = true;
    find("stop").hidden = false;
    setText(find("send"), "Waiting…");
    const begun = performance.now();
    try {
      const answer = await send(root() + target(), options);
      if (answer.status === 401 && (await expired())) return;
      await showAnswer(answer, performance.now() - begun, signal);
    } catch (failure) {
      const why = signal.aborted ? "You stopped waiting; the call may have been made." : failure.message;
      if (main.contains(find("compose"))) fail(why);
    } finally {
      waiting = null;
      if (find("compose")) {
        setText(find("send"), "Send");
        if (document.activeElement === find("stop")) find("send").focus();
        find("stop").hidden = true;
      }
    }
  };
  // Whether the 401 is of the session, and not the API's own.
  const expired = async () => {
    const answer = await send("session");
    if (answer.status === 401) signedOut();
    return answer.status === 401;
  };

  main.append(
    h("h1", { tabindex: -1 }, "New request"),
    h("p", { class: "soft" }, "A call of the API, made as you. All there are: ", h("a", { href: "api" }, "API"), "."),
    form(submit, change),
    h("section", { id: "answer", "aria-labelledby": "answer-title", hidden: true }, h("h2", { id: "answer-title" })),
  );
  find("stop").addEventListener("click", () => waiting?.abort());
  choose();
  draw();

  const fill = async () => {
    try {
      description ??= await json("../openapi.json");
      if (!main.contains(find("compose"))) return;
      for (const [tag, list] of operations()) {
        const options = list.map((one) => {
          const value = `${one.method.toLowerCase()} ${one.path}`;
          known.set(value, one);
          const what = one.operation.summary ? ` – ${one.operation.summary}` : "";
          return h("option", { value }, `${one.method} ${one.path}${what}`);
        });
        find("operation").append(h("optgroup", { label: tag }, options));
      }
    } catch (failure) {
      if (find("compose")) fail(`The description of the API cannot be read: ${failure.message}`);
    }
    ready();
  };
  fill();

  return {
    leave() {
      waiting?.abort();
    },
  };
}
