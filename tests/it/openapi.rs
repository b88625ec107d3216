//! `/openapi.json` describes what there is, all of it and nothing else; `/ui/api` is the page to read it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{TestServer, error_of};

/// Paths with their methods.
type Routes = BTreeMap<String, BTreeSet<&'static str>>;

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

fn description(server: &TestServer) -> Value {
    server.get(&format!("{}/openapi.json", server.mount())).expect(200).json()
}

fn described(document: &Value) -> Routes {
    let item = |(path, item): (&String, &Value)| {
        let methods = METHODS.into_iter().filter(|method| item.get(method).is_some()).collect();
        assert!(item.as_object().expect("operations").keys().all(|key| METHODS.contains(&key.as_str())), "{path}");
        (path.clone(), methods)
    };
    document["paths"].as_object().expect("paths").iter().map(item).collect()
}

/// What the source registers, in the form that is described: the server's own routes without a version, the API's with
/// theirs. The files of pages are no part of the interface.
fn registered() -> Routes {
    let mut routes = Routes::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut routes);
    routes.retain(|path, _| !path.starts_with("/ui/"));
    routes
}

fn collect(folder: &Path, routes: &mut Routes) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, routes);
            continue;
        }
        let version = if path.to_string_lossy().contains("/src/api/") { "/v2.5" } else { "" };
        let text = std::fs::read_to_string(&path).expect("a source");
        let text = text.replace("below(\"", "resource(&format!(\"{prefix}/bgrs");
        for registration in text.split("resource(&format!(\"").skip(1) {
            let (pattern, calls) = registration.split_once('"').expect("a pattern");
            let pattern = pattern.replace("{{", "{").replace("}}", "}");
            let (_, pattern) = pattern.split_once('}').expect("a prefix");
            let calls = calls.split(".build()").next().unwrap_or_default();
            let methods = METHODS.into_iter().filter(|method| calls.contains(&format!(".{method}("))).collect();
            // The one that all below /bgrs go through.
            if !pattern.ends_with("{rest}") {
                routes.insert(format!("{version}{pattern}"), methods);
            }
        }
    }
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in METHODS {
            operations.extend(item.get(method).map(|operation| (format!("{method} {path}"), operation)));
        }
    }
    operations
}

/// What a reference leads to, or the node itself.
fn resolved<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    match node.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let target = document.pointer(reference.strip_prefix('#').expect("a reference within"));
            resolved(document, target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
        None => node,
    }
}

/// Whether a value is what a schema asks for; of the keywords, those that are used here, but for patterns and formats.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(document, schema);
    let each = |name: &str| schema[name].as_array().into_iter().flatten();
    let fit = |schema: &Value| fits(document, schema, value);
    let is_a = |kind: &Value| match kind.as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type: {other}"),
    };
    let kinds = match &schema["type"] {
        Value::Null => Vec::new(),
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let known = &schema["properties"];
    let keys = || value.as_object().into_iter().flatten();
    (kinds.is_empty() || kinds.iter().any(is_a))
        && (schema["enum"].is_null() || each("enum").any(|one| one == value))
        && each("allOf").all(fit)
        && (schema["oneOf"].is_null() || each("oneOf").filter(|one| fit(one)).count() == 1)
        && (!value.is_object() || each("required").all(|name| value.get(name.as_str().expect("a name")).is_some()))
        && keys().all(|(key, value)| known.get(key).is_none_or(|schema| fits(document, schema, value)))
        && (schema["additionalProperties"] != false || keys().all(|(key, _)| known.get(key).is_some()))
        && value.as_array().into_iter().flatten().all(|one| fits(document, &schema["items"], one))
        && value.as_i64().is_none_or(|n| schema["minimum"].as_i64().is_none_or(|least| least <= n))
        && value.as_i64().is_none_or(|n| schema["maximum"].as_i64().is_none_or(|most| n <= most))
        && value.as_str().is_none_or(|text| schema["maxLength"].as_u64().is_none_or(|most| text.len() as u64 <= most))
}

/// Looks at every reference and every example.
fn check(document: &Value, at: &str, node: &Value) {
    resolved(document, node);
    if let (Some(schema), Some(example)) = (node.get("schema"), node.get("example")) {
        assert!(fits(document, schema, example), "{at}: {example} does not fit {schema}");
    }
    if let Some(Value::Array(examples)) = node.get("examples") {
        for example in examples {
            assert!(fits(document, node, example), "{at}: {example} does not fit {node}");
        }
    }
    match node {
        Value::Object(map) => {
            let parts = map.iter().filter(|(key, _)| !["example", "examples"].contains(&key.as_str()));
            parts.for_each(|(key, part)| check(document, &format!("{at}/{key}"), part));
        }
        Value::Array(list) => list.iter().for_each(|part| check(document, at, part)),
        _ => {}
    }
}

#[test]
fn the_description_is_openapi_3_1_for_who_has_credentials() {
    let server = TestServer::start();
    let answer = server.get("/openapi.json").expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!((&document["info"]["title"], &document["info"]["version"]), (&json!("BEAR API"), &json!("2.5")));
    assert_eq!(document["security"], json!([{ "basic": [] }]));
    assert_eq!(document["components"]["securitySchemes"]["basic"]["scheme"], "basic");
    error_of(&server.call("GET", "/openapi.json").no_auth().send(), 401);
    error_of(&server.call("GET", "/openapi.json").auth("admin", "wrong").send(), 401);
}

#[test]
fn every_route_that_is_registered_is_described_and_no_other() {
    let server = TestServer::start();
    let routes = described(&description(&server));
    assert_eq!(routes, registered());
    assert!(routes.len() > 20, "{routes:?}");
    for (path, methods) in routes {
        let path = path.replace("{rid}", &"4f".repeat(16)).replace("{id}", "1").replace("{name}", "x");
        let answer = server.call("OPTIONS", &path).send().expect(405);
        let allowed = answer.header("Allow").unwrap_or_default().to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(", ").filter(|method| *method != "head").collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

#[test]
fn every_operation_says_what_it_does_and_what_may_become_of_it() {
    let document = description(&TestServer::start());
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 4), "{name} has no summary");
        assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{name}: its id is another's");
        let responses = operation["responses"].as_object().expect("responses");
        let statuses: Vec<&str> = responses.keys().map(String::as_str).collect();
        assert!(statuses.iter().any(|status| status.starts_with('2')), "{name}: {statuses:?}");
        let is_open = operation["security"] == json!([{}]);
        assert_eq!(is_open, ["get /healthz", "get /readyz"].contains(&name.as_str()), "{name}");
        assert!(is_open || statuses.contains(&"401") && statuses.contains(&"500"), "{name}: {statuses:?}");
        let may_run_in_background = ["202", "410", "507"].iter().all(|status| statuses.contains(status));
        assert_eq!(name.contains("/v2.5/"), may_run_in_background, "{name}: {statuses:?}");
        for (status, response) in responses {
            let response = resolved(&document, response);
            assert!(response["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {status}");
            if status.starts_with(['4', '5']) {
                let content = &response["content"]["application/json"];
                assert_eq!(content["schema"]["$ref"], "#/components/schemas/Error", "{name}: {status}");
                assert_eq!(content["example"]["description"], response["description"]);
            }
        }
    }
}

#[test]
fn references_lead_somewhere_and_examples_fit() {
    let document = description(&TestServer::start());
    check(&document, "", &document);
    let parameter = |name: &str| resolved(&document, &document["components"]["parameters"][name])["in"].clone();
    assert_eq!((parameter("bgrs"), parameter("Idempotency-Key")), (json!("query"), json!("header")));
    let schema = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let body = &document["paths"]["/v2.5/users"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    for good in [json!({"login": "kim", "password": "p"}), json!([]), json!([1, {"login": 2}])] {
        assert!(fits(&document, body, &good), "{good}");
    }
    for bad in [json!({"login": "kim"}), json!({"login": "kim", "password": "p", "id": 3}), json!(null), json!("kim")] {
        assert!(!fits(&document, body, &bad), "{bad}");
    }
    assert!(!fits(&document, &schema("Accepted"), &json!({})));
}

#[test]
fn answers_are_what_the_description_says() {
    let server = TestServer::start();
    let document = description(&server);
    let campaign = server.post("/v2.5/campaigns", &json!({ "name": "spring" })).expect(200).json();
    server.post("/v2.5/scans", &json!({ "campaign_id": campaign["id"] })).expect(200);
    let rid = server.finished_get("/v2.5/users/me");
    let id = campaign["id"].to_string();
    for (target, path) in [
        ("/v2.5/users/me", "/v2.5/users/me"),
        ("/v2.5/users", "/v2.5/users"),
        ("/v2.5/campaigns", "/v2.5/campaigns"),
        (&*format!("/v2.5/campaigns/{id}"), "/v2.5/campaigns/{id}"),
        (&*format!("/v2.5/campaigns/{id}/statistics?by=country"), "/v2.5/campaigns/{id}/statistics"),
        ("/v2.5/scans/export", "/v2.5/scans/export"),
        ("/bgrs?verbose=1", "/bgrs"),
        (&*format!("/bgrs/{rid}"), "/bgrs/{rid}"),
        (&*format!("/bgrs/{rid}/details"), "/bgrs/{rid}/details"),
        (&*format!("/bgrs/{rid}/callbacks"), "/bgrs/{rid}/callbacks"),
        ("/healthz", "/healthz"),
    ] {
        let answer = server.get(target).expect(200).json();
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path} has no schema");
        assert!(fits(&document, schema, &answer), "{target}: {answer}");
    }
}

#[test]
fn a_mount_moves_the_own_routes_and_an_api_that_is_not_there_is_not_described() {
    let server = TestServer::options().server("mount = \"/own\"\nhosted_api = false").start();
    let routes = described(&description(&server));
    assert!(routes.keys().all(|path| path.starts_with("/own/")), "{routes:?}");
    let own: Routes = registered().into_iter().filter(|(path, _)| !path.starts_with("/v2.5/")).collect();
    let own: Routes = own.into_iter().map(|(path, methods)| (format!("/own{path}"), methods)).collect();
    assert_eq!(routes, own);
    server.call("GET", "/own/ui/api").no_auth().send().expect(200);
}

#[test]
fn the_page_is_open_to_all_and_loads_nothing_from_elsewhere() {
    let server = TestServer::start();
    for (page, up) in [("/ui/api", ""), ("/ui/api/", "../")] {
        let answer = server.call("GET", page).no_auth().send().expect(200);
        assert_eq!(answer.header("Content-Type"), Some("text/html; charset=utf-8"));
        let html = answer.text();
        for file in ["api.js", "api.css", "api.svg"] {
            assert!(html.contains(&format!("\"{up}{file}\"")), "{page}: {html}");
        }
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains("<script>"), "{html}");
    }
    let types = [
        ("api", "text/html; charset=utf-8"),
        ("api.js", "text/javascript; charset=utf-8"),
        ("api.css", "text/css; charset=utf-8"),
        ("api.svg", "image/svg+xml"),
    ];
    for (file, content_type) in types {
        let answer = server.call("GET", &format!("/ui/{file}")).no_auth().send().expect(200);
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        let policy = answer.header("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        let text = answer.text().replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!["http:", "https:", " url(", ":url(", "import("].iter().any(|from| text.contains(from)), "{file}");
    }
    error_of(&server.call("GET", "/ui/nothing").no_auth().send(), 404);
    error_of(&server.call("POST", "/ui/api").no_auth().send(), 405);
}
