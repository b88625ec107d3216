// Shows the server's description. Everything is put in as text, never as markup.
"use strict";

const SOURCE = new URL("../openapi.json", document.currentScript.src);
// Whoever came by a link with a password in it: a page may not fetch such a URL.
SOURCE.username = SOURCE.password = "";
const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const LONG = 8; // levels of an example at most

let description = {};

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Text whose `marks` are code.
function words(text) {
  return String(text ?? "")
    .split("`")
    .map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

function paragraphs(text) {
  return String(text ?? "")
    .split(/\n{2,}/)
    .filter((part) => part.trim())
    .map((part) => element("p", {}, words(part)));
}

// What a reference leads to.
function resolved(node) {
  for (let steps = 0; node && node.$ref && steps < LONG; steps++) {
    const path = node.$ref.replace(/^#\//, "").split("/");
    node = path.reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], description);
  }
  return node ?? {};
}

function nameOf(node) {
  return node?.$ref?.startsWith("#/components/schemas/") ? node.$ref.split("/").pop() : null;
}

// A schema in a few words; named ones are links.
function type(schema) {
  const name = nameOf(schema);
  if (name) return [element("a", { href: `#schema-${name}` }, name)];
  const joined = (list, word) => list.flatMap((one, at) => (at ? [` ${word} `, ...type(one)] : type(one)));
  if (schema.oneOf || schema.anyOf) return joined(schema.oneOf ?? schema.anyOf, "or");
  if (schema.allOf) return joined(schema.allOf, "and");
  const kinds = [schema.type ?? "anything"].flat();
  if (kinds.includes("array")) return ["array of ", ...type(schema.items ?? {})];
  const bounds = [
    schema.format,
    schema.enum && schema.enum.map((one) => JSON.stringify(one)).join(", "),
    schema.minimum !== undefined && `from ${schema.minimum}`,
    schema.maximum !== undefined && `to ${schema.maximum}`,
    schema.minLength !== undefined && `at least ${schema.minLength} characters`,
    schema.maxLength !== undefined && `at most ${schema.maxLength} characters`,
    schema.pattern && `matching ${schema.pattern}`,
    schema.default !== undefined && `default ${JSON.stringify(schema.default)}`,
  ].filter(Boolean);
  return [kinds.join(" or ") + (bounds.length ? `; ${bounds.join("; ")}` : "")];
}

// A value that fits a schema.
function example(schema, depth = 0) {
  schema = resolved(schema);
  if (depth > LONG) return null;
  if (schema.examples?.length) return schema.examples[0];
  for (const key of ["example", "default", "const"]) if (schema[key] !== undefined) return schema[key];
  if (schema.enum) return schema.enum[0];
  if (schema.oneOf ?? schema.anyOf) return example((schema.oneOf ?? schema.anyOf)[0], depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((one) => example(one, depth + 1)));
  switch ([schema.type].flat()[0]) {
    case "object": {
      const pairs = Object.entries(schema.properties ?? {});
      return Object.fromEntries(pairs.map(([key, value]) => [key, example(value, depth + 1)]));
    }
    case "array":
      return [example(schema.items ?? {}, depth + 1)];
    case "string":
      return "text";
    case "integer":
    case "number":
      return schema.minimum ?? 1;
    case "boolean":
      return true;
    default:
      return null;
  }
}

function written(value) {
  return element("pre", {}, element("code", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2)));
}

function row(head, ...cells) {
  return element("tr", {}, element("th", {}, head), cells.map((cell) => element("td", {}, cell)));
}

function properties(schema) {
  const parts = [schema, ...(schema.allOf ?? [])].map(resolved);
  const rows = parts.flatMap((part) =>
    Object.entries(part.properties ?? {}).map(([key, value]) =>
      row(
        [element("code", {}, key), part.required?.includes(key) ? " *" : ""],
        [element("span", { className: "type" }, type(value))],
        paragraphs(resolved(value).description),
      ),
    ),
  );
  return rows.length ? element("table", {}, rows) : element("p", { className: "type" }, type(schema));
}

function contents(content) {
  return Object.entries(content ?? {}).flatMap(([media, { schema, example: given, examples }]) => {
    const value = given ?? Object.values(examples ?? {})[0]?.value;
    const shown = value !== undefined ? value : schema && /json/.test(media) ? example(schema) : undefined;
    const what = element("span", { className: "type" }, schema ? type(schema) : "");
    const head = element("p", {}, element("code", {}, media), " ", what);
    return shown === undefined ? [head] : [head, written(shown)];
  });
}

function parameters(list) {
  const rows = list.map(resolved).map((one) =>
    row(
      [element("code", {}, one.name), one.required ? " *" : ""],
      [element("span", { className: "type" }, `${one.in}; `, type(one.schema ?? {}))],
      [paragraphs(one.description), one.example === undefined ? null : element("code", {}, String(one.example))].flat(),
    ),
  );
  return rows.length ? [element("h3", {}, "Parameters"), element("table", {}, rows)] : [];
}

function answers(responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    const { description: text, headers, content } = resolved(response);
    const lines = Object.entries(headers ?? {}).map(([name, header]) =>
      element("p", {}, element("code", {}, name), " ", words(resolved(header).description)),
    );
    const more = [...lines, ...contents(content)];
    const isError = status >= "400" && status < "600";
    return row(element("code", {}, status), [
      ...paragraphs(text),
      ...(isError && more.length ? [element("details", {}, element("summary", {}, "as it is sent"), more)] : more),
    ]);
  });
  return [element("h3", {}, "Answers"), element("table", {}, rows)];
}

// Where the paths begin, also behind a proxy's own path.
function root() {
  const own = Object.keys(description.paths).find((path) => path.endsWith("/openapi.json")) ?? SOURCE.pathname;
  return SOURCE.href.slice(0, -own.length);
}

function curl(method, path, operation) {
  const body = resolved(operation.requestBody).content?.["application/json"];
  const value = body && JSON.stringify(body.example ?? example(body.schema)).replaceAll("'", "'\\''");
  const data = body ? ` \\\n  --json '${value}'` : "";
  const isOpen = (operation.security ?? []).some((one) => !Object.keys(one).length);
  const verb = method === "get" || (method === "post" && body) ? "" : ` -X ${method.toUpperCase()}`;
  return written(`curl${isOpen ? "" : " -u LOGIN"}${verb} '${root()}${path}'${data}`);
}

function operation(path, method, item, isCall = true) {
  const one = item[method];
  const list = [...(item.parameters ?? []), ...(one.parameters ?? [])];
  const body = one.requestBody && resolved(one.requestBody);
  const shown = element(
    "details",
    { id: one.operationId ?? `${method}-${path}` },
    element(
      "summary",
      {},
      element("span", { className: "method" }, method.toUpperCase()),
      element("code", {}, path),
      " ",
      element("span", { className: "what" }, one.summary ?? ""),
    ),
  );
  shown.dataset.text = [method, path, one.summary, one.description, one.operationId].join(" ").toLowerCase();
  shown.addEventListener("toggle", () => {
    if (!shown.open || shown.dataset.filled) return;
    shown.dataset.filled = "yes";
    shown.append(
      ...paragraphs(one.description),
      isCall ? curl(method, path, one) : "",
      ...parameters(list),
      ...(body ? [element("h3", {}, "Body"), ...paragraphs(body.description), ...contents(body.content)] : []),
      ...answers(one.responses),
    );
  });
  return shown;
}

function grouped(paths) {
  const groups = new Map((description.tags ?? []).map((tag) => [tag.name, { text: tag.description, shown: [] }]));
  for (const [path, item] of Object.entries(paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const [tag] = item[method].tags ?? ["other"];
      if (!groups.has(tag)) groups.set(tag, { shown: [] });
      groups.get(tag).shown.push(operation(path, method, item));
    }
  }
  return groups;
}

function section(id, title, text, shown) {
  return element("section", { id }, element("h2", {}, title), ...paragraphs(text), ...shown);
}

function schemas() {
  return Object.entries(description.components?.schemas ?? {}).map(([name, schema]) =>
    element(
      "details",
      { id: `schema-${name}` },
      element("summary", {}, element("code", {}, name)),
      ...paragraphs(schema.description),
      properties(schema),
      written(example(schema)),
    ),
  );
}

function show() {
  const { title, version, description: text } = description.info;
  document.title = document.querySelector("#title").textContent = `${title} ${version}`;
  const source = element("a", { href: SOURCE.href }, SOURCE.pathname);
  document.querySelector("#source").append(`OpenAPI ${description.openapi}: `, source);
  const sections = [...grouped(description.paths)].map(([name, { text, shown }]) =>
    section(`tag-${name.replaceAll(" ", "-")}`, name, text, shown),
  );
  const sent = Object.entries(description.webhooks ?? {}).flatMap(([name, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operation(name, method, item, false)),
  );
  if (sent.length) sections.push(section("tag-sent", "sent by the server", "", sent));
  sections.push(section("schemas", "schemas", "", schemas()));
  document.querySelector("#main").replaceChildren(...paragraphs(text), ...sections);
  document.querySelector("#tags").append(
    ...sections.map((one) => element("a", { href: `#${one.id}` }, one.querySelector("h2").textContent)),
  );
}

// Opens what the address names.
function jump() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
  named?.scrollIntoView();
}

function find(event) {
  const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const shown of document.querySelectorAll("details[data-text]")) {
    shown.hidden = !wanted.every((word) => shown.dataset.text.includes(word));
  }
}

function failed(why) {
  document.querySelector("#main").replaceChildren(
    element("p", { className: "failed" }, `${SOURCE.pathname} cannot be read: ${why}. Reload the page to try again.`),
  );
}

async function start() {
  const answer = await fetch(SOURCE, { credentials: "same-origin", headers: { Accept: "application/json" } });
  if (answer.status === 401) throw new Error("sign in with your login and password");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  description = await answer.json();
  show();
  jump();
}

document.querySelector("#find").addEventListener("input", find);
window.addEventListener("hashchange", jump);
start().catch((error) => failed(error.message));
