//! nginx behind the server, with files and a slow FastCGI, and nginx as the CDN in front of it, which waits 2 s.

use std::path::Path;

use tempfile::TempDir;

use crate::common::server::PASSWORD;
use crate::common::{Call, DataDir, Response, TestServer, assert_submitted, error_of, eventually, until};
use crate::fastcgi::FastCgi;
use crate::peer::{HELLO, Peer, command, files, find, free_port, large};

/// One process, all of whose files are in its folder. `$PORT` and `$SERVER` are filled in.
const CONFIGURATION: &str = "
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    types { text/plain txt; application/octet-stream bin; }
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:$PORT$SSL;
        $SERVER
    }
}
";

const UPSTREAM: &str = "
        root .;
        location /up/slow {
            fastcgi_pass $ADDRESS;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param CONTENT_LENGTH $content_length;
        }";

/// Its own address is another than the client's, so that the two can be told apart.
const CDN: &str = "
        location / {
            proxy_pass http://$ADDRESS;
            proxy_bind 127.0.0.2;
            proxy_http_version $VERSION;
            proxy_read_timeout 2s;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }";

pub fn nginx(program: &Path, dir: TempDir, server: &str) -> Peer {
    let port = free_port();
    let ssl = if server.contains("ssl_certificate") { " ssl" } else { "" };
    let text = CONFIGURATION.replace("$PORT", &port.to_string()).replace("$SSL", ssl).replace("$SERVER", server);
    std::fs::write(dir.path().join("nginx.conf"), text).expect("a configuration");
    let mut command = command(program);
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
    Peer::start(dir, command, port)
}

/// nginx in front of the FastCGI program and of two files.
fn upstream(program: &Path, fastcgi: &FastCgi) -> Peer {
    nginx(program, files(), &UPSTREAM.replace("$ADDRESS", &fastcgi.addr().to_string()))
}

/// The whole way: client, CDN, server, nginx, FastCGI.
struct Chain {
    fastcgi: FastCgi,
    _upstream: Peer,
    _server: TestServer,
    cdn: Peer,
}

impl Chain {
    /// With this policy; the CDN speaks this version of HTTP to the server.
    fn start(program: &Path, policy: &str, version: &str) -> Self {
        let fastcgi = FastCgi::start();
        let upstream = upstream(program, &fastcgi);
        let config = format!("{}{policy}", upstream.table());
        let server = TestServer::options().server("trusted_proxies = [\"127.0.0.2\"]").config(&config).start();
        let cdn = CDN.replace("$ADDRESS", &server.addr().to_string()).replace("$VERSION", version);
        let cdn = nginx(program, TempDir::new().expect("a temporary folder"), &cdn);
        Self { fastcgi, _upstream: upstream, _server: server, cdn }
    }

    fn get(&self, target: &str) -> Response {
        Call::new(self.cdn.addr(), "GET", target).auth("admin", PASSWORD).send()
    }

    /// Waits for the end of a request and gives its result, all through the CDN.
    fn result(&self, rid: &str) -> Response {
        until("the request to finish", || {
            let info = self.get(&format!("/bgrs/{rid}?wait=1")).expect(200).json();
            assert_ne!(info[0]["status_name"], "failed", "{info}");
            info[0]["status_name"] == "finished"
        });
        self.get(&format!("/bgrs/{rid}/result")).expect(200)
    }

    /// Asserts that each call has arrived with the client's address, and the CDN's behind it.
    fn assert_client_is_known(&self) {
        for params in self.fastcgi.seen() {
            assert_eq!(params["HTTP_X_FORWARDED_FOR"], "127.0.0.1, 127.0.0.2");
            assert_eq!(params["HTTP_X_FORWARDED_PROTO"], "https");
        }
    }
}

/// An authority, and a certificate of 127.0.0.1 that it signed.
const CERTIFICATES: &str = "
set -e
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj /CN=authority
openssl req -x509 $key -keyout other.key -out other.pem -days 2 -subj /CN=other
openssl req $key -keyout key.pem -out request.pem -subj /CN=upstream
echo subjectAltName=IP:127.0.0.1 >names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out certificate.pem";

#[test]
fn an_https_upstream_is_called_only_where_its_certificate_is_trusted() {
    let Some(program) = find("nginx as an upstream", &["nginx"]) else { return };
    let Some(_) = find("an upstream with TLS", &["openssl"]) else { return };
    let dir = files();
    let made = command(Path::new("sh")).current_dir(dir.path()).args(["-c", CERTIFICATES]).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let nginx = nginx(&program, dir, "root .; ssl_certificate certificate.pem; ssl_certificate_key key.pem;");
    let table = |more: &str| {
        let addr = nginx.addr();
        format!(
            "[[upstream]]\nprefix = \"/up\"\nurl = \"https://{addr}\"\n{more}\n[[route]]\npath = \"/up\"\nretry = {{ attempts = 1 }}\n"
        )
    };
    let ca = |name: &str| format!("ca = \"{}\"", nginx.path().join(name).display());
    let server = TestServer::options().config(&table(&ca("ca.pem"))).start();
    assert_eq!(server.get("/up/hello.txt").expect(200).text(), HELLO);
    let rid = server.finished_get("/up/hello.txt");
    assert_eq!(server.get(&format!("/bgrs/{rid}/result")).expect(200).text(), HELLO);
    for untrusted in [ca("other.pem"), String::new()] {
        let server = TestServer::options().config(&table(&untrusted)).start();
        error_of(&server.get("/up/hello.txt"), 502);
        let rid = server.submit("GET", "/up/hello.txt");
        assert_eq!(server.ended(&rid)["status_name"], "failed", "{untrusted}");
    }
    let without = DataDir::with("", &table("ca = \"missing.pem\"")).run(&["check"], "");
    assert_eq!(without.code, Some(2));
    assert!(without.stderr.contains("ca: ") && without.stderr.contains("missing.pem"), "{}", without.stderr);
}

#[test]
fn files_of_nginx_come_through_whole_in_parts_and_not_at_all_where_they_are_known() {
    let Some(program) = find("nginx as an upstream", &["nginx"]) else { return };
    let nginx = upstream(&program, &FastCgi::start());
    let server = TestServer::options().config(&nginx.table()).start();
    assert_eq!(server.get("/up/hello.txt").expect(200).text(), HELLO);
    let whole = server.get("/up/large.bin").expect(200);
    assert!(whole.body == large());
    let range = "bytes 1000-1999/5242880";
    let part = server.call("GET", "/up/large.bin").header("Range", "bytes=1000-1999").send().expect(206);
    assert_eq!(part.header("Content-Range"), Some(range));
    assert!(part.body == large()[1000..2000]);
    let tag = whole.header("ETag").expect("a tag");
    let known = server.call("GET", "/up/large.bin").header("If-None-Match", tag).send().expect(304);
    assert_eq!((known.header("ETag"), known.body.len()), (Some(tag), 0));

    let rid = server.finished_get("/up/large.bin");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert!(result.body == large());
    // A part that is asked for in the background is the result, and says which part it is.
    let call = server.call("GET", "/up/large.bin?bgrs=yes").header("Range", "bytes=1000-1999");
    let rid = assert_submitted(&call.send());
    assert_eq!(server.finished(&rid)["status"], "206");
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(206);
    assert_eq!(result.header("Content-Range"), Some(range));
    assert!(result.body == large()[1000..2000]);
}

#[test]
fn a_slow_fastcgi_behind_nginx_answers_in_the_foreground_and_in_the_background() {
    let Some(program) = find("nginx with a slow FastCGI as an upstream", &["nginx"]) else { return };
    let nginx = upstream(&program, &FastCgi::start());
    let server = TestServer::options().config(&nginx.table()).start();
    let call = server.call("POST", "/up/slow?a=%20b&bgrs=yes&c").body("text/x", vec![b'x'; 100_000]);
    let rid = assert_submitted(&call.send());
    assert_eq!(server.get("/up/slow").expect(200).text(), "GET /up/slow with 0 bytes");
    server.finished(&rid);
    let result = server.get(&format!("/bgrs/{rid}/result")).expect(200);
    assert_eq!(result.text(), "POST /up/slow?a=%20b&c with 100000 bytes");
}

#[test]
fn behind_a_cdn_that_gives_up_a_slow_call_gets_its_504_and_in_the_background_its_result() {
    let Some(program) = find("nginx as the CDN in front", &["nginx"]) else { return };
    let chain = Chain::start(&program, "", "1.1");
    let gave_up = chain.get("/up/slow").expect(504);
    assert!(gave_up.text().contains("504 Gateway Time-out"), "not the CDN's: {}", gave_up.lossy());
    let rid = assert_submitted(&chain.get("/up/slow?bgrs=yes"));
    let result = chain.result(&rid);
    assert_eq!(result.text(), "GET /up/slow with 0 bytes");
    assert_eq!(result.header("Bgrs-Request"), Some(rid.as_str()));
    assert_eq!(chain.fastcgi.seen().len(), 2);
    chain.assert_client_is_known();
}

#[test]
fn behind_a_cdn_that_gives_up_a_slow_call_is_rescued_before_and_its_result_delivered() {
    let Some(program) = find("nginx as the CDN in front", &["nginx"]) else { return };
    let policy = "[[route]]\npath = \"/up/slow\"\nrescue_after = \"1s\"\n";
    let chain = Chain::start(&program, policy, "1.0");
    let rid = assert_submitted(&chain.get("/up/slow"));
    assert_eq!(chain.result(&rid).text(), "GET /up/slow with 0 bytes");
    let details = chain.get(&format!("/bgrs/{rid}/details")).expect(200).json();
    let first = details[0]["details"].as_str().expect("a text");
    assert!(first.starts_with("had no answer after 1s and became a background request"), "{first}");
    assert_eq!(chain.fastcgi.seen().len(), 1, "it is the same call that goes on");
    chain.assert_client_is_known();
}

#[test]
fn a_callback_goes_to_an_https_receiver_only_where_its_certificate_is_trusted() {
    let Some(program) = find("nginx as a callback's receiver", &["nginx"]) else { return };
    let Some(_) = find("a receiver with TLS", &["openssl"]) else { return };
    let dir = files();
    let made = command(Path::new("sh")).current_dir(dir.path()).args(["-c", CERTIFICATES]).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = "location / { return 204; } ssl_certificate certificate.pem; ssl_certificate_key key.pem;";
    let nginx = nginx(&program, dir, tls);
    for (ca, status) in [("ca.pem", Some("204")), ("other.pem", None)] {
        let roots = nginx.path().join(ca).display().to_string();
        let config = "[webhooks]\nallow = [\"127.0.0.0/8\"]\n";
        let server = TestServer::options().env("SSL_CERT_FILE", &roots).config(config).start();
        let rid = server.finished_get(&format!("/v2.5/users/me?bgrs_callback=https://{}/hook", nginx.addr()));
        let first = eventually("a delivery", || {
            let all = server.get(&format!("/bgrs/{rid}/callbacks")).expect(200).json();
            (!all[0]["sent_dt"].is_null()).then(|| all[0].clone())
        });
        assert_eq!(first["status"].as_str(), status, "{first}");
        assert_eq!(first["error"].as_str().is_some_and(|why| why.contains("certificate")), status.is_none(), "{first}");
    }
}
