// One request: the call, its time line, its log while it grows, what came of it, and what can be done with it.

import { Failure, at, call, follow, json, root, session } from "./net.js";
import {
  announce, ask, between, bytes, called, copy, exact, find, h, hasEnded, moment, setBadge, setText, time, toast,
} from "./dom.js";
import { isOwn } from "./list.js";
import { preview } from "./preview.js";

const LINES = 1000; // of the log in the page
const RETRY = /; attempt \d+ of \d+, the next in /;

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// The call, to be made once more from a terminal.
function curl(request) {
  const { method, name } = request;
  const parts = ["curl"];
  if (/[[\]{}]/.test(name)) parts.push("-g");
  parts.push("-u", session.login ? quoted(session.login).replace(/^'([\w.@-]+)'$/, "$1") : "LOGIN");
  if (method === "HEAD") parts.push("-I");
  else if (method !== "GET") parts.push("-X", method);
  if (!/[?&]bgrs=/.test(name)) parts.push("-H", "'Prefer: respond-async'");
  if (["POST", "PUT", "PATCH"].includes(method)) parts.push("--data-binary", "@BODY");
  return [...parts, quoted(root() + name)].join(" ");
}

const FACTS = [
  ["rid", "Id"],
  ["user", "User"],
  ["created", "Submitted"],
  ["started", "Started"],
  ["finished", "Ended"],
  ["waited", "Waited"],
  ["took", "Took"],
  ["attempts", "Attempts"],
  ["status", "HTTP status"],
  ["type", "Content type"],
  ["size", "Size"],
  ["expires", "Kept until"],
];

// What is known of it, by the names above; what is not yet is left out.
function factsOf(request) {
  const { created_dt: created, started_dt: started, finished_dt: finished } = request;
  const copyRid = h("button", { id: "copy-rid", type: "button", onclick: () => copy(request.rid) }, "Copy");
  return {
    rid: () => [h("code", {}, request.rid), " ", copyRid],
    user: () => request.user_id,
    created: () => exact(created),
    started: () => started && exact(started),
    finished: () => finished && exact(finished),
    waited: () => started && request.attempts === "1" && between(created, started),
    took: () => started && finished && between(started, finished),
    attempts: () => request.attempts,
    status: () => request.status,
    type: () => request.content_type,
    size: () => request.size && `${bytes(Number(request.size))} (${Number(request.size).toLocaleString("en")} bytes)`,
    expires: () => request.expires_dt && exact(request.expires_dt),
  };
}

function ending(request) {
  if (request.status_name === "finished") return `Finished: the API answered ${request.status}`;
  return request.status_name === "failed" ? "Failed: no answer could be had" : "Cancelled";
}

function timeline(request, retries) {
  const step = (name, dt, text) => ({ name, dt, text });
  const steps = [step("queued", request.created_dt, "Submitted, and queued")];
  for (const line of retries) steps.push(step("attempt", line.dt, line.details));
  if (request.started_dt) {
    const which = Number(request.attempts) > 1 ? `, attempt ${request.attempts}` : "";
    steps.push(step("started", request.started_dt, `Started${which}`));
  }
  if (request.finished_dt) steps.push(step("ended", request.finished_dt, ending(request)));
  steps.sort((one, other) => moment(one.dt) - moment(other.dt));
  return steps.map(({ name, dt, text }) =>
    h("li", { "data-test": `time-${name}`, class: `at-${name}` }, h("span", {}, text), " ", exact(dt)),
  );
}

function section(id, title, ...children) {
  const name = `${id}-title`;
  return h("section", { "aria-labelledby": name }, h("h2", { id: name }, title), children);
}

// What every request has a place for.
function frame() {
  const state = [
    h("span", { id: "request-status", class: "badge" }),
    h("progress", { id: "request-progress", max: 100, "aria-label": "Progress" }),
    h("span", { id: "request-percent", class: "number" }),
  ];
  const result = [
    h("h2", { id: "result-title" }, "Result"),
    h("p", { id: "result-line" }),
    h("p", { id: "result-note", class: "soft", hidden: true }),
    h("div", { id: "preview" }),
  ];
  const scroll = { id: "details-scroll", class: "scroll log", role: "region", tabindex: 0 };
  const log = [
    h("p", { id: "details-note", class: "soft", hidden: true }),
    h("div", { ...scroll, "aria-label": "Lines of the log", hidden: true }, h("ol", { id: "details" })),
    h("p", { id: "details-empty", class: "soft" }, "No line yet."),
  ];
  const note = "Its body is not in it: write it into a file, and the file's name in place of BODY.";
  const terminal = [
    h("pre", { tabindex: 0 }, h("code", { id: "curl" })),
    h("p", { id: "curl-note", class: "soft", hidden: true }, note),
  ];
  const columns = [
    section("facts", "What is known", h("dl", { id: "facts" })),
    section("timeline", "Time line", h("ol", { id: "timeline" })),
  ];
  return [
    h("p", {}, h("a", { href: "#/requests" }, "All requests")),
    h("h1", { id: "request-title", tabindex: -1 }, "Request"),
    h("p", { id: "request-error", class: "failed", hidden: true }),
    h(
      "div",
      { id: "request", hidden: true },
      h("p", { class: "state" }, state),
      h("p", { id: "actions", class: "actions" }),
      h("div", { class: "columns" }, columns),
      h("section", { id: "result", "aria-labelledby": "result-title" }, result),
      section("details", "Log", log),
      section("curl", "With curl", terminal),
    ),
  ];
}

export function request({ main, about, ready, title }) {
  const rid = about.toLowerCase();
  const path = `../bgrs/${encodeURIComponent(rid)}`;
  const end = new AbortController();
  const { signal } = end;
  let known = null; // the request, as it was last told
  let may = false; // whether it is theirs to act on
  let shownResult = "";
  let close = () => {};
  const retries = [];
  const lines = { waiting: [], dropped: 0, frame: 0 };

  title("Request");
  main.append(...frame());

  const say = (failure) => {
    if (signal.aborted) return;
    const node = find("request-error");
    setText(node, failure.message);
    node.hidden = false;
  };

  const drawResult = async () => {
    const key = `${known.status_name} ${known.result} ${known.status}`;
    if (key === shownResult) return;
    shownResult = key;
    const put = ({ kind, nodes, note }) => {
      if (signal.aborted || shownResult !== key) return;
      find("result").dataset.kind = kind;
      find("preview").replaceChildren(...nodes);
      setText(find("result-note"), note);
      find("result-note").hidden = !note;
    };
    const words = (kind, text, properties = {}) => put({ kind, nodes: [h("p", properties, text)], note: "" });
    find("result-line").replaceChildren();
    if (!hasEnded(known)) return words("waiting", "It will be here when the request has finished.");
    if (known.status_name === "cancelled") return words("cancelled", "It was cancelled: there is no result.");
    if (known.status_name === "failed") {
      const told = await json(`${path}/result`, { signal }).catch((failure) => failure);
      return words("failed", told.message ?? "It failed.", { class: "failed" });
    }
    if (!known.result?.startsWith("media/")) return words("none", `The API answered ${known.status} without a body.`);
    const file = { path: `../${known.result}`, href: at(`../${known.result}`).href };
    const name = known.result.slice("media/".length);
    const size = Number(known.size);
    find("result-line").append(
      h("a", { id: "download", href: file.href, download: name, class: "button" }, "Download"),
      ` ${known.content_type ?? "no content type"}, ${bytes(size)}`,
    );
    try {
      put(await preview({ ...file, type: known.content_type, size }, signal));
    } catch (failure) {
      words("download", `It cannot be shown here: ${failure.message}`);
    }
  };

  const drawActions = () => {
    const button = (id, text, does, kind) => h("button", { id, type: "button", class: kind, onclick: does }, text);
    const list = [["copy-curl", "Copy as curl", copyCurl]];
    if (may && !hasEnded(known)) list.push(["cancel", "Cancel", cancel, "danger"]);
    if (may) list.push(["rerun", "Run again", rerun]);
    if (may && hasEnded(known)) list.push(["delete", "Delete", remove, "danger"]);
    const place = find("actions");
    const ids = list.map(([id]) => id).join(" ");
    if (place.dataset.shown === ids) return;
    place.dataset.shown = ids;
    // The focus is not lost with a button that goes: it comes to the one in its place.
    const focused = [...place.children].indexOf(document.activeElement);
    place.replaceChildren(...list.map((one) => button(...one)));
    if (focused >= 0) place.children[Math.min(focused, list.length - 1)].focus();
  };

  const draw = () => {
    const name = called(known);
    setText(find("request-title"), name);
    title(name);
    setBadge(find("request-status"), known, true);
    const progress = find("request-progress");
    progress.value = Number(known.progress);
    progress.hidden = known.status_name === "failed" || known.status_name === "cancelled";
    setText(find("request-percent"), `${known.progress} %`);
    setText(find("curl"), curl(known));
    find("curl-note").hidden = !["POST", "PUT", "PATCH"].includes(known.method);
    drawActions();
    drawFacts();
    drawResult();
  };

  const drawFacts = () => {
    const facts = factsOf(known);
    const key = JSON.stringify({ ...known, progress: null });
    const list = find("facts");
    if (list.dataset.of === key) return;
    list.dataset.of = key;
    const shown = FACTS.map(([id, text]) => [id, text, facts[id]()]).filter(([, , value]) => value);
    list.replaceChildren(
      ...shown.map(([id, text, value]) => h("div", {}, h("dt", {}, text), h("dd", { "data-fact": id }, value))),
    );
    drawTimeline();
  };
  const drawTimeline = () => find("timeline").replaceChildren(...timeline(known, retries));

  const drawLines = () => {
    lines.frame = 0;
    if (signal.aborted) return;
    const [list, scroll] = [find("details"), find("details-scroll")];
    const wasAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 8;
    const fresh = lines.waiting.splice(0).slice(-LINES);
    list.append(
      ...fresh.map((line) =>
        h("li", { "data-test": "detail" }, time(line.dt), " ", h("span", { class: "detail-text" }, line.details)),
      ),
    );
    while (list.childElementCount > LINES) list.firstElementChild.remove();
    lines.dropped = Math.max(0, lines.all - list.childElementCount);
    const note = find("details-note");
    note.hidden = !lines.dropped;
    if (lines.dropped) {
      const all = h("a", { href: at(`${path}/details`).href }, "all of them");
      note.replaceChildren(`The newest ${LINES} lines are shown; here are `, all, ".");
    }
    find("details-empty").hidden = list.childElementCount > 0;
    scroll.hidden = !list.childElementCount;
    if (wasAtEnd) scroll.scrollTop = scroll.scrollHeight;
  };
  lines.all = 0;
  const addLine = (line) => {
    lines.all += 1;
    lines.waiting.push(line);
    if (lines.waiting.length > 2 * LINES) lines.waiting.splice(0, LINES);
    if (RETRY.test(line.details)) {
      retries.push(line);
      if (known) drawTimeline();
    }
    lines.frame ||= requestAnimationFrame(drawLines);
  };

  // Asks for all that is known; an event tells less.
  const renew = async () => {
    const [now] = await json(`${path}?verbose=1`, { signal });
    if (signal.aborted) return;
    tell(now);
    draw();
  };
  const tell = (now) => {
    if (known && known.status_name !== now.status_name) announce(`The request is ${now.status_name}.`);
    known = { ...known, ...now };
  };
  const heard = (now) => {
    const before = known.status_name;
    tell(now);
    if (before === now.status_name && !hasEnded(now)) draw();
    else renew().catch(say);
  };

  // One thing at a time. The button is not disabled meanwhile: it would lose the focus.
  let isActing = false;
  const act = (does) => async () => {
    if (isActing) return;
    isActing = true;
    try {
      await does();
    } catch (failure) {
      if (!signal.aborted) toast(failure.message);
    }
    isActing = false;
  };
  const copyCurl = act(() => copy(curl(known), find("curl")));
  const cancel = act(async () => {
    if (!(await ask(`Cancel ${called(known)}? What it has done until now is lost.`, "Cancel the request"))) return;
    // One that has ended would be removed by this.
    await renew();
    if (hasEnded(known)) return toast("It had ended already; nothing was cancelled.");
    const [now] = await json(`${path}?verbose=1`, { method: "DELETE", signal });
    tell(now);
    draw();
    toast("Cancelled.");
  });
  const rerun = act(async () => {
    const accepted = await json(`${path}/rerun`, { method: "POST", signal });
    toast("Submitted once more.");
    location.hash = `#/requests/${accepted.request}`;
  });
  const remove = act(async () => {
    if (!(await ask(`Delete ${called(known)}, its log and its result? They cannot be brought back.`, "Delete"))) return;
    await call(path, { method: "DELETE", signal });
    toast("Deleted.");
    location.hash = "#/requests";
  });

  const start = async () => {
    try {
      const [now] = await json(`${path}?verbose=1`, { signal });
      may = !session.read_only && (session.is_admin || (await isOwn(now)));
      if (signal.aborted) return;
      known = now;
    } catch (failure) {
      if (signal.aborted) return;
      const isUnknown = failure instanceof Failure && failure.status === 404;
      setText(find("request-title"), isUnknown ? "No such request" : "The request cannot be read");
      say(failure);
      return ready();
    }
    find("request").hidden = false;
    draw();
    drawLines();
    ready();
    close = follow(`${path}/events`, {
      on: {
        status: heard,
        detail: addLine,
        end: (now) => {
          close();
          heard(now);
        },
      },
      fail: say,
    });
  };
  start();

  return {
    leave() {
      end.abort();
      close();
      cancelAnimationFrame(lines.frame);
    },
  };
}
