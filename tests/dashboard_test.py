"""The dashboard as its users see it. Called by tests/dashboard: BINARY BROWSER FOLDER [PICTURES]."""

import http.client
import json
import math
import os
import re
import secrets
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
import zlib
from base64 import b64encode
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.sync_api import expect, sync_playwright

DEADLINE = 20  # seconds for anything that is waited for
MANY = 3000
WIDTHS = {375: 800, 1440: 900}
SCHEMES = ["light", "dark"]
PASSWORDS = {"admin": "secret"} | {login: f"pass of {login}" for login in ["kim", "lee", "mia", "viewer", "many"]}

# Whichever of them is run: it says so.
MARKUP = '<img src=x onerror="window.pwned=1;alert(1)">'
SCRIPT = "<script>window.pwned=1;alert(1)</script>"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# A picture of one red pixel.
PIXEL = b"".join([
    b"\x89PNG\r\n\x1a\n",
    chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
    chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
    chunk(b"IEND", b""),
])
RESULTS = {
    "json": ("application/json", json.dumps({"people": [{"name": "Kim", "age": 30}, None], "note": MARKUP + SCRIPT})),
    "csv": ("text/csv; charset=utf-8", f'name,note\nKim,"{MARKUP.replace(chr(34), chr(34) * 2)}"\n{SCRIPT},=1+1\n'),
    "html": ("text/html; charset=utf-8", f"<!doctype html><title>x</title>{SCRIPT}{MARKUP}"),
    "svg": ("image/svg+xml", f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{SCRIPT}</svg>'),
    "text": ("text/plain", f"plain {MARKUP}"),
    "png": ("image/png", PIXEL),
    "bytes": ("application/octet-stream", b"\0\1\2" * 1000),
}

# What the browser itself writes on the console about an answer that is no success: the page has shown it in words.
ANSWERED = re.compile(r"^Failed to load resource: the server responded with a status of (401|403|404|410|502)\b")


class Upstream(ThreadingHTTPServer):
    """The API behind the server: it reports, waits, breaks off and answers as its paths say."""

    daemon_threads = True

    def __init__(self):
        self.lock, self.gates, self.closed = threading.Lock(), {}, False
        super().__init__(("127.0.0.1", 0), Handler)

    def gate(self, name):
        with self.lock:
            gate = self.gates.setdefault(name, threading.Event())
            if self.closed:
                gate.set()
            return gate

    def open_all(self):
        with self.lock:
            self.closed = True
            for gate in self.gates.values():
                gate.set()

    def handle_error(self, request, client_address):
        pass  # whoever has cancelled does not read the answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection = True
        _, kind, *rest = urlsplit(self.path).path.removeprefix("/up").split("/")
        name = "/".join([kind, *rest])
        if kind == "walk":
            for step, percent in enumerate([10, 60], 1):
                self.report(percent, f"{percent} of 100 walked")
                self.server.gate(f"{name}/{step}").wait(600)
            self.send(200, "application/json", json.dumps({"walked": 100}))
        elif kind == "slow":
            self.report(30, "it takes its time")
            self.server.gate(name).wait(600)
            self.send(200, "text/plain", "at last")
        elif kind == "evil":
            self.report(50, MARKUP + SCRIPT)
            self.send(200, "application/json", "{}")
        elif kind == "nothing":
            self.send_response(204)
            self.end_headers()
        elif kind in RESULTS:
            self.send(200, *RESULTS[kind])
        elif kind != "break":
            self.send(404, "application/json", json.dumps({"error": "Not Found"}))

    do_POST = do_GET

    def send(self, status, content_type, body):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def report(self, progress, details):
        url = self.headers.get("Bgrs-Report")
        if url is None:
            return  # in the foreground
        where = urlsplit(url)
        headers = {"Authorization": f"Bearer {self.headers['Bgrs-Report-Token']}"}
        with closing(http.client.HTTPConnection(where.netloc, timeout=DEADLINE)) as connection:
            connection.request("POST", where.path, json.dumps({"progress": progress, "details": details}), headers)
            connection.getresponse().read()


class World:
    """The server with its upstream, and a browser."""

    def __init__(self, folder, browser):
        self.folder, self.browser, self.server = Path(folder), browser, None
        self.pages, self.problems = [], []
        self.upstream = Upstream()
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()

    def start(self, binary):
        config = self.folder / "bgrs.toml"
        config.write_text(
            '[server]\nlisten = "127.0.0.1:0"\nshutdown_timeout = "1s"\n'
            f'[[upstream]]\nprefix = "/up"\nurl = "http://127.0.0.1:{self.upstream.server_port}"\n'
        )
        with open(self.folder / "out", "w") as out, open(self.folder / "log", "w") as log:
            env = os.environ | {"BGRS_ADMIN_PASSWORD": PASSWORDS["admin"]}
            command = [binary, "--config", str(config)]
            self.server = subprocess.Popen(command, stdout=out, stderr=log, env=env)
        self.url = eventually("the server listens", self.listens)
        self.ids = {}
        for login, password in PASSWORDS.items():
            if login != "admin":
                add = [*command, "user", "add", login] + ["--read-only"] * (login == "viewer")
                subprocess.run(add, input=password + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
            self.ids[login] = str(json.loads(self.call(login, "GET", "/users/me")[1])["id"])

    def listens(self):
        assert self.server.poll() is None, "the server has ended: " + (self.folder / "log").read_text()
        found = re.search(r"^listening on (http:\S+)$", (self.folder / "out").read_text(), re.MULTILINE)
        return found and found[1]

    def stop(self):
        self.upstream.open_all()
        if self.server is None:
            return
        self.server.terminate()
        try:
            self.server.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()

    # The API, as programs use it.

    def call(self, login, method, target, headers=None):
        if login:
            headers = {"Authorization": basic(login)}
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=90)) as connection:
            connection.request(method, target, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def submit(self, login, method, path):
        status, body = self.call(login, method, f"{path}{'&' if '?' in path else '?'}bgrs=yes")
        assert status == 202, (status, body)
        return json.loads(body)["request"]

    def information(self, login, rid, query=""):
        return json.loads(self.call(login, "GET", f"/bgrs/{rid}{query}")[1])[0]

    def ended(self, login, method, path):
        """The rid of a call that has been made."""
        rid = self.submit(login, method, path)
        information = self.information(login, rid, "?wait=30")
        assert information["finished_dt"], information
        return rid

    def running(self, login, path):
        """The rid of a call that has reported something and goes on."""
        rid = self.submit(login, "GET", path)
        eventually("a report", lambda: float(self.information(login, rid)["progress"]) > 0)
        return rid

    # The browser, as people use it.

    def page(self, login=None, width=1440, scheme="light"):
        """A page of a browser of its own, where `login` is signed in."""
        viewport = {"width": width, "height": WIDTHS[width]}
        context = self.browser.new_context(
            base_url=self.url, viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(DEADLINE * 1000)
        context.add_init_script(
            """addEventListener("securitypolicyviolation",
                (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""
        )
        context.on("console", self.on_console)
        context.on("weberror", lambda error: self.problems.append(f"uncaught: {error.error}"))
        context.on("dialog", self.on_dialog)
        context.on("request", self.on_request)
        if login:
            answer = context.request.post("/ui/session", data={"login": login, "password": PASSWORDS[login]})
            assert answer.status == 204, (answer.status, answer.text())
        page = context.new_page()
        self.pages.append(page)
        return page

    def on_console(self, message):
        if message.type == "error" and not ANSWERED.match(message.text):
            self.problems.append(f"console: {message.text} ({message.location})")

    def on_dialog(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def on_request(self, request):
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.problems.append(f"it asked elsewhere: {request.url}")

    def leave(self, failed_as=None):
        """Closes all pages; whatever went wrong unseen is raised."""
        pages, self.pages = self.pages, []
        problems, self.problems = self.problems, []
        for number, page in enumerate(pages):
            if failed_as:
                folder = Path(sys.prefix) / "failed"
                folder.mkdir(exist_ok=True)
                page.screenshot(path=folder / f"{failed_as}-{number}.png", full_page=True)
            elif page.evaluate("() => typeof window.pwned") != "undefined":
                problems.append(f"markup was run on {page.url}")
            page.context.close()
        assert not problems, "\n".join(problems)


def basic(login):
    return "Basic " + b64encode(f"{login}:{PASSWORDS[login]}".encode()).decode()


def eventually(what, look):
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"in vain waited for: {what}")


def go(page, place):
    """Opens a page of the dashboard, and waits until it is there."""
    page.goto(f"/ui/#/{place}")
    first, *rest = place.split("?")[0].split("/")
    arrived(page, "request" if rest else first)


def arrived(page, route):
    expect(page.locator(f"body[data-route={route}]")).to_have_count(1)
    expect(page.locator("#main[aria-busy=true]")).to_have_count(0)


def row(page, rid):
    return page.locator(f"[data-test=row][data-rid='{rid}']")


def rows(page):
    return page.locator("[data-test=row]")


def confirm(page, word):
    expect(page.locator("#confirm-text")).not_to_be_empty()
    expect(page.locator("#confirm-yes")).to_have_text(word)
    page.locator("#confirm-yes").click()
    expect(page.locator("#confirm")).to_be_hidden()


TESTS = []


def test(function):
    TESTS.append(function)
    return function


@test
def signs_in_stays_signed_in_and_signs_out(world):
    page = world.page()
    page.goto("/ui")
    expect(page).to_have_url(re.compile(r"/ui/(#.*)?$"))
    expect(page.locator("#sign-in")).to_be_visible()
    expect(page.locator("#sign-out")).to_be_hidden()
    page.locator("#sign-in-login").fill("admin")
    page.locator("#sign-in-password").fill("wrong")
    page.locator("#sign-in-submit").click()
    expect(page.locator("#sign-in-error")).to_be_visible()
    expect(page.locator("#sign-in-error")).not_to_be_empty()
    expect(page.locator("#sign-in")).to_be_visible()
    assert page.context.cookies() == []

    page.locator("#sign-in-password").fill(PASSWORDS["admin"])
    page.locator("#sign-in-password").press("Enter")
    expect(page.locator("#sign-in")).to_be_hidden()
    expect(page.locator("#who")).to_have_text("admin · administrator")
    arrived(page, "requests")
    [cookie] = page.context.cookies()
    assert cookie["name"] == "bgrs_session" and cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie
    assert cookie["path"] == "/" and not cookie["secure"], cookie
    assert page.evaluate("() => document.cookie") == ""

    page.reload()
    expect(page.locator("#who")).to_have_text("admin · administrator")
    expect(page.locator("#sign-in")).to_be_hidden()

    page.locator("#sign-out").click()
    expect(page.locator("#sign-in")).to_be_visible()
    page.reload()
    expect(page.locator("#sign-in")).to_be_visible()
    expect(rows(page)).to_have_count(0)
    status, _ = world.call(None, "GET", "/bgrs", {"Cookie": f"bgrs_session={cookie['value']}"})
    assert status == 401, "signing out left the session alive"


@test
def what_is_submitted_moves_in_the_list_without_a_reload(world):
    page = world.page("kim")
    go(page, "requests")
    expect(page.locator("#list-state")).to_have_attribute("data-state", "empty")
    expect(page.locator("#first-curl")).to_contain_text("curl")
    page.locator("#nav-new").click()
    arrived(page, "new")
    expect(page.locator("#nav-new")).to_have_attribute("aria-current", "page")
    page.locator("#method").select_option("GET")
    page.locator("#path").fill("/up/walk/list")
    page.locator("#mode-background").check()
    page.locator("#send").click()
    expect(page.locator("#answer-status")).to_contain_text("202")
    rid = page.locator("#follow").get_attribute("href")[-32:]

    page.locator("#nav-requests").click()
    arrived(page, "requests")
    expect(page.locator("#live")).to_have_attribute("data-state", "open")
    page.evaluate("() => { window.stays = true }")
    progress = row(page, rid).locator("[data-test=row-progress]")
    status = row(page, rid).locator("[data-test=row-status]")
    expect(row(page, rid).locator("[data-test=row-link]")).to_contain_text("/up/walk/list")
    expect(progress).to_have_js_property("value", 10)
    expect(status).to_have_attribute("data-status", "running")
    world.upstream.gate("walk/list/1").set()
    expect(progress).to_have_js_property("value", 60)
    world.upstream.gate("walk/list/2").set()
    expect(status).to_have_attribute("data-status", "finished")
    expect(progress).to_be_hidden()
    expect(row(page, rid).locator("[data-test=row-time]")).to_have_attribute("title", re.compile(r"\d"))

    # Submitted by a program, while somebody looks.
    missing = world.submit("kim", "GET", "/up/missing")
    expect(row(page, missing).locator("[data-test=row-status]")).to_have_text("finished 404")
    assert page.evaluate("() => window.stays") is True


@test
def a_request_is_followed_live_to_its_result(world):
    rid = world.running("kim", "/up/walk/one")
    page = world.page("kim")
    go(page, f"requests/{rid}")
    page.evaluate("() => { window.stays = true }")
    expect(page.locator("#request-title")).to_contain_text("GET /up/walk/one")
    expect(page.locator("#request-status")).to_have_text("running")
    expect(page.locator("#request-percent")).to_have_text(re.compile(r"^10\.00\s%$"))
    expect(page.locator("#delete")).to_be_hidden()
    world.upstream.gate("walk/one/1").set()
    expect(page.locator("#request-percent")).to_have_text(re.compile(r"^60\.00\s%$"))
    expect(page.locator("#request-progress")).to_have_js_property("value", 60)
    expect(page.locator("[data-test=detail] .detail-text")).to_have_text(["10 of 100 walked", "60 of 100 walked"])
    world.upstream.gate("walk/one/2").set()
    expect(page.locator("#request-status")).to_have_text("finished 200")
    expect(page.locator("[data-test=detail]").last).to_contain_text("done")
    expect(page.locator("#result")).to_have_attribute("data-kind", "json")
    expect(page.locator("#preview .tree")).to_contain_text("walked")
    expect(page.locator("[data-test=time-ended]")).to_have_count(1)
    expect(page.locator("[data-fact=rid]")).to_contain_text(rid)
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#curl")).to_contain_text("/up/walk/one")
    assert page.evaluate("() => window.stays") is True


@test
def each_kind_of_result_is_shown_in_its_way(world):
    page = world.page("kim")

    def shows(method, path, kind):
        go(page, f"requests/{world.ended('kim', method, path)}")
        expect(page.locator("#result")).to_have_attribute("data-kind", kind)

    shows("GET", "/up/json", "json")
    expect(page.locator("#preview .tree .key").filter(has_text="people").first).to_be_visible()
    for branch in ["people", "0:"]:
        page.locator("#preview .tree summary").filter(has_text=branch).click()
    expect(page.locator("#preview .tree")).to_contain_text("Kim")
    page.locator("#preview-switch").click()
    expect(page.locator("#preview pre")).to_contain_text('"age"')
    shows("GET", "/up/csv", "csv")
    expect(page.locator("#preview th")).to_have_text(["name", "note"])
    expect(page.locator("#preview td")).to_have_text(["Kim", MARKUP, SCRIPT, "=1+1"])
    shows("GET", "/up/text", "text")
    expect(page.locator("#preview pre")).to_have_text(f"plain {MARKUP}")
    shows("GET", "/up/png", "image")
    expect(page.locator("#preview img")).to_have_js_property("naturalWidth", 1)
    shows("GET", "/up/bytes", "download")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.path().read_bytes() == RESULTS["bytes"][1]
    shows("GET", "/up/nothing", "none")
    shows("GET", "/up/missing", "json")
    expect(page.locator("#request-status")).to_have_text("finished 404")
    shows("POST", "/up/break", "failed")
    expect(page.locator("#preview")).not_to_be_empty()
    expect(page.locator("#request-status")).to_contain_text("failed")


@test
def a_running_request_is_cancelled_once_that_is_confirmed(world):
    rid = world.running("kim", "/up/slow/cancel")
    page = world.page("kim")
    go(page, f"requests/{rid}")
    page.locator("#cancel").click()
    expect(page.locator("#confirm")).to_be_visible()
    page.locator("#confirm-no").click()
    expect(page.locator("#confirm")).to_be_hidden()
    assert world.information("kim", rid)["status_name"] == "running"
    page.locator("#cancel").click()
    confirm(page, "Cancel the request")
    expect(page.locator("#request-status")).to_contain_text("cancelled")
    expect(page.locator("#result")).to_have_attribute("data-kind", "cancelled")
    assert world.information("kim", rid)["status_name"] == "cancelled"


@test
def a_request_runs_again_and_is_deleted_once_that_is_confirmed(world):
    first = world.ended("kim", "GET", "/up/csv?again")
    page = world.page("kim")
    go(page, f"requests/{first}")
    page.locator("#rerun").click()
    expect(page).to_have_url(re.compile(rf"#/requests/(?!{first})[0-9a-f]{{32}}$"))
    again = page.url[-32:]
    expect(page.locator("[data-fact=rid]")).to_contain_text(again)
    expect(page.locator("#request-status")).to_have_text("finished 200")
    expect(page.locator("#result")).to_have_attribute("data-kind", "csv")

    page.locator("#delete").click()
    page.locator("#confirm-no").click()
    assert world.call("kim", "GET", f"/bgrs/{again}")[0] == 200
    page.locator("#delete").click()
    confirm(page, "Delete")
    expect(page.locator("#toast")).to_have_text("Deleted.")
    expect(page).to_have_url(re.compile(r"#/requests$"))
    expect(row(page, first)).to_have_count(1)
    expect(row(page, again)).to_have_count(0)
    assert world.call("kim", "GET", f"/bgrs/{again}")[0] == 404


@test
def filters_are_kept_over_a_reload(world):
    csv = world.ended("mia", "GET", "/up/csv")
    world.ended("mia", "GET", "/up/json")
    world.ended("mia", "GET", "/up/missing")
    failed = world.ended("mia", "POST", "/up/break")
    page = world.page("mia")
    go(page, "requests")
    expect(rows(page)).to_have_count(4)

    page.locator("#status-failed").check()
    for _ in range(2):
        expect(rows(page)).to_have_count(1)
        expect(row(page, failed)).to_be_visible()
        expect(page.locator("#status-failed")).to_be_checked()
        expect(page).to_have_url(re.compile(r"#/requests\?status=failed$"))
        page.reload()
        arrived(page, "requests")
    page.locator("#filter-clear").click()
    expect(rows(page)).to_have_count(4)
    expect(page).to_have_url(re.compile(r"#/requests$"))

    page.locator("#filter-name").fill("/up/c")
    page.locator("#filter-name").press("Tab")
    for _ in range(2):
        expect(rows(page)).to_have_count(1)
        expect(row(page, csv)).to_be_visible()
        expect(page.locator("#filter-name")).to_have_value("/up/c")
        expect(page).to_have_url(re.compile(r"#/requests\?name=/up/c$"))
        page.reload()
        arrived(page, "requests")
    page.locator("#filter-time").select_option("hour")
    expect(page).to_have_url(re.compile(r"[?&]time=hour"))
    expect(rows(page)).to_have_count(1)
    page.locator("#status-queued").check()
    expect(page.locator("#list-state")).to_have_attribute("data-state", "no-match")
    page.locator("#no-match-clear").click()
    expect(rows(page)).to_have_count(4)

    # What is no match stays out of the list also where it is heard of live.
    page.locator("#status-failed").check()
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#live")).to_have_attribute("data-state", "open")
    world.ended("mia", "GET", "/up/text")
    expect(row(page, world.ended("mia", "POST", "/up/break"))).to_be_visible()
    expect(rows(page)).to_have_count(2)


@test
def a_request_is_found_by_its_id(world):
    rid = world.ended("kim", "GET", "/up/text?find")
    page = world.page("kim")
    go(page, "requests")
    page.locator("#find-rid").fill("nonsense")
    page.locator("#find-go").click()
    expect(page.locator("#find-error")).to_contain_text("An id is 32 hexadecimal digits")
    page.locator("#find-rid").fill(rid)
    page.locator("#find-rid").press("Enter")
    arrived(page, "request")
    expect(page).to_have_url(re.compile(f"#/requests/{rid}$"))
    expect(page.locator("#request-title")).to_contain_text("/up/text?find")
    go(page, f"requests/{'0' * 32}")
    expect(page.locator("#main h1")).to_have_text("No such request")


@test
def users_see_their_own_and_administrators_everybodys(world):
    kims = world.ended("kim", "GET", "/up/text?whose=kim")
    lees = world.ended("lee", "GET", "/up/text?whose=lee")
    lee, admin = world.page("lee"), world.page("admin")
    go(lee, "requests")
    go(admin, "requests")
    for page in [lee, admin]:
        expect(row(page, lees)).to_be_visible()
        expect(page.locator("#live")).to_have_attribute("data-state", "open")
    expect(rows(lee)).to_have_count(1)
    for hidden in ["#filter-user", "#nav-overview"]:
        expect(lee.locator(hidden)).to_be_hidden()
    expect(row(admin, kims).locator("[data-test=row-user]")).to_contain_text(world.ids["kim"])

    # Live, too: what comes second is there, so what came first would be.
    unseen, seen = world.ended("kim", "GET", "/up/text?live=kim"), world.ended("lee", "GET", "/up/text?live=lee")
    expect(row(lee, seen)).to_be_visible()
    expect(row(lee, unseen)).to_have_count(0)
    expect(row(admin, unseen)).to_be_visible()

    admin.locator("#filter-user").fill(world.ids["lee"])
    admin.locator("#filter-user").press("Tab")
    expect(row(admin, kims)).to_have_count(0)
    expect(row(admin, lees)).to_be_visible()
    expect(rows(admin)).to_have_count(2)
    expect(admin).to_have_url(re.compile(rf"[?&]user={world.ids['lee']}$"))

    # A shared id may be read by any user; to act is for its owner and administrators.
    go(lee, f"requests/{kims}")
    expect(lee.locator("#result")).to_have_attribute("data-kind", "text")
    expect(lee.locator("#copy-curl")).to_be_visible()
    for action in ["#cancel", "#rerun", "#delete"]:
        expect(lee.locator(action)).to_have_count(0)
    go(admin, f"requests/{kims}")
    expect(admin.locator("#delete")).to_be_visible()
    go(lee, "overview")
    expect(lee.locator("#main")).to_contain_text("Only administrators see the overview.")


@test
def who_may_only_look_has_no_buttons_and_gets_403(world):
    rid = world.ended("kim", "GET", "/up/text?look")
    page = world.page("viewer")
    go(page, "requests")
    expect(page.locator("#who")).to_contain_text("may only look")
    go(page, f"requests/{rid}")
    expect(page.locator("#result")).to_have_attribute("data-kind", "text")
    for action in ["#cancel", "#rerun", "#delete"]:
        expect(page.locator(action)).to_have_count(0)
    go(page, "new")
    expect(page.locator("#compose-read-only")).to_be_visible()
    for method, target in [
        ("DELETE", f"/bgrs/{rid}"),
        ("POST", f"/bgrs/{rid}/rerun"),
        ("GET", "/up/text?bgrs=yes"),
        ("POST", "/up/text"),
    ]:
        answer = page.context.request.fetch(target, method=method, headers={"Bgrs-Ui": "1"})
        assert answer.status == 403, (method, target, answer.status)
        assert "You may only look here" in answer.json()["description"]
    assert world.call("kim", "GET", f"/bgrs/{rid}")[0] == 200


@test
def markup_stays_text_wherever_it_comes_from(world):
    page = world.page("kim")
    # Nothing of it became an element.
    made = page.locator("[onerror], [onload], [src=x], #main script")

    evil = world.ended("kim", "GET", f'/up/evil/{quote(MARKUP)}"x/?q={quote(SCRIPT)}')
    go(page, "requests")
    expect(row(page, evil).locator("[data-test=row-link]")).to_contain_text("onerror")
    expect(made).to_have_count(0)
    go(page, f"requests/{evil}")
    expect(page.locator("#request-title")).to_contain_text("onerror")
    expect(page.locator("[data-test=detail] .detail-text").first).to_have_text(MARKUP + SCRIPT)
    expect(page.locator("#curl")).to_contain_text("curl")
    expect(made).to_have_count(0)

    whole = {"html": "text", "json": "json", "csv": "csv"}
    for path, kind in (whole | {"svg": "image|text|download"}).items():
        rid = world.ended("kim", "GET", f"/up/{path}?markup")
        go(page, f"requests/{rid}")
        expect(page.locator("#result")).to_have_attribute("data-kind", re.compile(f"^({kind})$"))
        if path in whole:
            expect(page.locator("#preview")).to_contain_text("<script>window.pwned=1")
        expect(made).to_have_count(0)
        # The result itself, not as part of the dashboard.
        if path in ["html", "svg"]:
            alone = page.context.new_page()
            alone.goto(f"/bgrs/{rid}/result")
            alone.close()
    world.problems[:] = [problem for problem in world.problems if "sandboxed" not in problem]

    go(page, f"requests?name={quote(MARKUP)}")
    expect(page.locator("#filter-name")).to_have_value(MARKUP)
    expect(page.locator("#list-state")).to_have_attribute("data-state", "no-match")
    go(page, f"requests/{quote(MARKUP, safe='')}")
    expect(page.locator("#main h1")).to_have_text("No such request")
    expect(made).to_have_count(0)


@test
def the_keyboard_is_enough(world):
    rid = world.ended("lee", "POST", "/up/break?keys")

    def tab_to(selector):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab never comes to {selector}")

    page = world.page("lee")
    go(page, "requests")
    expect(row(page, rid)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    tab_to("#status-failed")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile("status=failed"))
    expect(rows(page)).to_have_count(1)
    tab_to("a[data-test=row-link]")
    page.keyboard.press("Enter")
    arrived(page, "request")
    expect(page.locator("#request-title")).to_be_focused()
    tab_to("#delete")
    page.keyboard.press("Enter")
    expect(page.locator("#confirm")).to_be_visible()
    assert page.evaluate("() => document.querySelector('#confirm').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_hidden()
    expect(page.locator("#delete")).to_be_focused()
    page.go_back()
    arrived(page, "requests")
    expect(page.locator("#status-failed")).to_be_checked()


@test
def a_call_is_made_from_the_description_in_the_foreground(world):
    page = world.page("kim")
    go(page, "new")
    page.locator("#operation").select_option("get /v2.5/users/me")
    expect(page.locator("#path")).to_be_hidden()
    expect(page.locator("#target")).to_contain_text("/v2.5/users/me")
    page.locator("#mode-foreground").check()
    page.locator("#send").click()
    expect(page.locator("#answer-status")).to_have_text("200 OK")
    expect(page.locator("#answer")).to_have_attribute("data-kind", "json")
    expect(page.locator("#answer-body")).to_contain_text("kim")
    expect(page.locator("#follow")).to_be_hidden()
    # One that takes longer than somebody likes to wait.
    page.locator("#operation").select_option("")
    page.locator("#method").select_option("GET")
    page.locator("#path").fill("/up/slow/foreground")
    page.locator("#mode-foreground").check()
    page.locator("#send").click()
    page.locator("#stop").click()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#send")).to_be_enabled()


@test
def the_overview_shows_what_there_is(world):
    world.ended("kim", "GET", "/up/text?overview")
    world.running("kim", "/up/slow/overview")
    page = world.page("admin")
    go(page, "overview")
    expect(page.locator("#nav-overview")).to_have_attribute("aria-current", "page")
    expect(page.locator("[data-now=running] .number")).to_have_text(re.compile(r"^[1-9]"))
    expect(page.locator("#plot-done svg[role=img]")).to_be_visible()
    expect(page.locator("#plot-done .line-submitted")).to_have_count(1)
    expect(page.locator("#plot-load svg[role=img]")).to_be_visible()
    expect(page.locator("#routes [data-route-name]").first).to_be_visible()
    page.locator("#span-day").check()
    expect(page).to_have_url(re.compile(r"#/overview\?span=day$"))
    page.reload()
    arrived(page, "overview")
    expect(page.locator("#span-day")).to_be_checked()
    world.upstream.gate("slow/overview").set()


@test
def thousands_of_requests_stay_smooth(world):
    first = world.ended("many", "GET", "/up/nothing")
    newest = copy_request(world.folder / "bgrs.sqlite3", first, MANY)
    page = world.page("many")
    go(page, "requests")
    expect(row(page, newest)).to_be_visible()
    look = """() => ({
        nodes: document.getElementsByTagName("*").length,
        height: document.documentElement.scrollHeight,
        state: document.querySelector("#list-state").dataset.state,
    })"""
    most, until = 0, time.monotonic() + 3 * DEADLINE
    while (seen := page.evaluate(look))["state"] != "end":
        assert time.monotonic() < until, f"the end of the list is not reached: {seen}"
        page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")

        def more():
            nonlocal most
            after = page.evaluate(look)
            most = max(most, after["nodes"])
            return after["state"] == "end" or after["height"] > seen["height"]

        eventually("more rows", more)
    page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    expect(row(page, first)).to_be_in_viewport()
    most = max(most, page.evaluate(look)["nodes"])
    assert most < 2000, f"{most} elements for {MANY} requests"
    page.evaluate("() => scrollTo(0, 0)")
    expect(row(page, newest)).to_be_in_viewport()
    expect(row(page, first)).to_have_count(0)


def copy_request(database, rid, count):
    """Writes copies of a request, each with a rid of its own; gives the newest one's."""
    connection = sqlite3.connect(database, timeout=DEADLINE)
    with connection:
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(bgrs)") if name not in ("id", "rid")]
        [identity] = connection.execute("SELECT id FROM bgrs WHERE rid = ?", [rid]).fetchone()
        columns = ", ".join(names)
        for _ in range(count):
            copy = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
            connection.execute(
                f"INSERT INTO bgrs (rid, {columns}) SELECT ?, {columns} FROM bgrs WHERE id = ?", [copy, identity]
            )
    connection.close()
    return copy


def places(world):
    """Each page with something on it: its name, and what comes behind the #/."""
    shown = world.ended("kim", "GET", "/up/json?page")
    world.ended("kim", "POST", "/up/break?page")
    world.ended("kim", "GET", "/up/missing?page")
    running = world.running("kim", "/up/slow/page")
    csv = world.ended("kim", "GET", "/up/csv?page")
    return {
        "requests": "requests",
        "no-match": "requests?name=/nothing",
        "request": f"requests/{shown}",
        "running": f"requests/{running}",
        "table": f"requests/{csv}",
        "overview": "overview",
        "new": "new",
    }


def each_page(world, look):
    """Looks at each page in each width and scheme."""
    there = places(world)
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = world.page(None, width, scheme)
            page.goto("/ui/")
            expect(page.locator("#sign-in")).to_be_visible()
            look(page, f"sign-in-{width}-{scheme}")
            page = world.page("admin", width, scheme)
            for name, place in there.items():
                go(page, place)
                if place.startswith("requests/"):
                    expect(page.locator("#result[data-kind]")).to_be_visible()
                elif name == "requests":
                    expect(rows(page).first).to_be_visible()
                elif name == "no-match":
                    expect(page.locator("#no-match-clear")).to_be_visible()
                elif name == "overview":
                    expect(page.locator("#plot-load svg")).to_be_visible()
                look(page, f"{name}-{width}-{scheme}")
    world.upstream.gate("slow/page").set()


@test
def no_page_is_a_barrier_or_wider_than_its_window(world):
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    found = []

    def look(page, name):
        wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{name}: {wide} px wider than the window")
        before = len(world.problems)
        page.evaluate(axe)
        # Without preload: it would load the page's style a second time, for a rule that is about turned screens.
        violations = page.evaluate(
            """async () => {
                const { violations } = await axe.run(document, { resultTypes: ["violations"], preload: false });
                return violations.map(({ id, help, nodes }) =>
                    `${id}: ${help}: ` + nodes.map((node) => `${node.target} (${node.failureSummary})`).join("; "));
            }"""
        )
        found.extend(f"{name}: {violation}" for violation in violations)
        del world.problems[before:]  # those of axe

    each_page(world, look)
    assert not found, "\n".join(found)


def run(world):
    failed = 0
    for function in TESTS:
        begun, name = time.monotonic(), function.__name__
        try:
            function(world)
            world.leave()
            print(f"ok      {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            try:
                world.leave(failed_as=name)
            except Exception as error:
                print(f"        and: {error}", flush=True)
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def make_a_past(database):
    """An hour of figures, so that there is something to be seen in the plots."""
    connection = sqlite3.connect(database, timeout=DEADLINE)
    with connection:
        for ago in range(1, 60):
            at = time.strftime("%Y-%m-%d %H:%M:00", time.gmtime(time.time() - 60 * ago))
            wave = math.sin(ago / 7)
            figures = {
                "at": at,
                "submitted": round(30 + 25 * wave),
                "finished": round(28 + 20 * math.sin((ago + 2) / 7)),
                "failed": 4 if ago % 17 < 3 else 0,
                "cancelled": 2 if ago % 23 == 0 else 0,
                "running": round(9 + 6 * wave),
                "waiting": max(0, round(40 * wave)),
            }
            marks = ", ".join("?" * len(figures))
            connection.execute(
                f"INSERT OR REPLACE INTO bgrs_minutes ({', '.join(figures)}) VALUES ({marks})", [*figures.values()]
            )
    connection.close()


def take_pictures(world, folder):
    make_a_past(world.folder / "bgrs.sqlite3")
    each_page(world, lambda page, name: page.screenshot(path=Path(folder) / f"{name}.png", full_page=True))
    world.leave()
    print(f"{len(list(Path(folder).glob('*.png')))} pictures in {folder}")
    return 0


def main(binary, executable, folder, pictures=None):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    shutil.rmtree(Path(sys.prefix) / "failed", ignore_errors=True)
    expect.set_options(timeout=DEADLINE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        world = World(folder, browser)
        try:
            world.start(binary)
            return take_pictures(world, pictures) if pictures else run(world)
        finally:
            world.stop()
            browser.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
