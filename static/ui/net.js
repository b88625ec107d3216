// Calls of the server. The session's cookie says who calls; the header says that this page does, not another.

import { clock } from "./dom.js";

const HERE = new URL("./", import.meta.url);
// Whoever came by a link with a password in it: a page may not fetch such a URL.
HERE.username = HERE.password = "";

const OURS = { "Bgrs-Ui": "1" };
const SILENCE = 45000; // a comment comes every 15 seconds
const UNSEEN = 60000; // how long a page that nobody sees keeps its connection
const LONGEST_PAUSE = 15000;

// Whoever is signed in, as the server says it.
export let session = null;

export function setSession(value) {
  session = value;
}

// A URL from a path relative to the pages' folder.
export const at = (path) => new URL(path, HERE);

// Where the API's paths begin, also behind a proxy's own path.
export function root() {
  const own = at("../").href.slice(0, -1);
  const mount = session?.mount ?? "";
  return mount && own.endsWith(mount) ? own.slice(0, -mount.length) : own;
}

export class Failure extends Error {
  constructor(status, description) {
    super(description);
    this.status = status;
  }
}

async function failureOf(answer) {
  const told = await answer.json().catch(() => null);
  const description = typeof told?.description === "string" ? told.description : null;
  return new Failure(answer.status, description ?? `The server answered ${answer.status} ${answer.statusText}.`);
}

export function signedOut() {
  window.dispatchEvent(new Event("signed-out"));
}

// Any answer, whatever its status.
export async function send(path, options = {}) {
  try {
    const answer = await fetch(at(path), {
      cache: "no-store",
      credentials: "same-origin",
      ...options,
      headers: { ...OURS, ...options.headers },
    });
    const date = Date.parse(answer.headers.get("Date") ?? "");
    if (date) clock.ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server cannot be reached; check the connection, then try again.");
  }
}

// A good answer; who is no longer signed in is asked to.
export async function call(path, options) {
  const answer = await send(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "session") signedOut();
  throw await failureOf(answer);
}

export const json = async (path, options) => (await call(path, options)).json();

function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

function seen(signal) {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((done) => {
    const end = new AbortController();
    const look = () => {
      if (document.visibilityState !== "visible" && !signal.aborted) return;
      end.abort();
      done();
    };
    document.addEventListener("visibilitychange", look, { signal: end.signal });
    signal.addEventListener("abort", look, { signal: end.signal });
  });
}

// Reads server-sent events (HTML standard, section 9.2) until they end.
async function events(body, heard, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { type: "message", data: [] };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((line) => line.replace(/\r$/, ""))) {
      if (line === "") {
        if (event.data.length) each(event.type, event.data.join("\n"), event.id);
        event = { type: "message", data: [] };
        continue;
      }
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === "event") event.type = text;
      else if (field === "data") event.data.push(text);
      else if (field === "id") event.id = text;
    }
  }
}

// One connection; true: there is nothing more to come.
async function listen(path, told, last, stop) {
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => stop.abort(), SILENCE);
  };
  let unseen;
  const look = () => {
    clearTimeout(unseen);
    if (document.visibilityState !== "visible") unseen = setTimeout(() => stop.abort(), UNSEEN);
  };
  document.addEventListener("visibilitychange", look, { signal: stop.signal });
  try {
    const headers = { Accept: "text/event-stream", ...(last.id ? { "Last-Event-ID": last.id } : {}) };
    const answer = await send(path, { headers, signal: stop.signal });
    if (answer.status === 204) return true;
    if (!answer.ok) {
      const failure = await failureOf(answer);
      if (answer.status === 401) signedOut();
      // Too many calls, or too slow a one: that passes, as the server's own failures do.
      if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw failure;
      told.fail?.(failure);
      return true;
    }
    last.pause = 1000;
    told.state?.("open");
    told.open?.();
    heard();
    await events(answer.body, heard, (type, data, id) => {
      if (id !== undefined) last.id = id;
      try {
        told.on[type]?.(JSON.parse(data));
      } catch (error) {
        reportError(error); // the page's own fault: the connection is good
      }
    });
    return false;
  } finally {
    clearTimeout(silence);
    clearTimeout(unseen);
    stop.abort();
  }
}

// Follows an event stream, over and over, until the function that comes back is called. Not the browser's EventSource:
// that shows no status, and asks for a password by itself.
// `told`: `on` (what to do with which event), `open`, `state` ("open" or "broken"), `fail`.
export function follow(path, told) {
  const end = new AbortController();
  const last = { id: "", pause: 1000 };
  const go = async () => {
    while (!end.signal.aborted) {
      await seen(end.signal);
      if (end.signal.aborted) return;
      const stop = new AbortController();
      const both = () => stop.abort();
      end.signal.addEventListener("abort", both, { once: true });
      let isBroken = false;
      try {
        if (await listen(path, told, last, stop)) return;
      } catch {
        isBroken = true; // broken off, or refused for now
      }
      end.signal.removeEventListener("abort", both);
      if (end.signal.aborted) return;
      // The server ends a stream from time to time: that is no news.
      if (isBroken) told.state?.("broken");
      await pause(last.pause, end.signal);
      if (isBroken) last.pause = Math.min(last.pause * 2, LONGEST_PAUSE);
    }
  };
  go();
  return () => end.abort();
}
