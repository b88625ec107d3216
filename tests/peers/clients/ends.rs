//! One call from its submission to its result, in each language, into every end that it may come to.

use super::way::{REPORT, Told, Trick, Way, api, last_rid};
use super::{Ran, bash, browse, chromium, cors, execute, node, page, recipe, rows};
use crate::common::TestServer;
use crate::common::upstream::Upstream;
use crate::peer::{find, python};

/// That API, the server before it, and the way there.
struct Scene {
    api: Upstream,
    server: TestServer,
    way: Way,
}

impl Scene {
    fn start(config: &str) -> Self {
        let told = Told::default();
        let api = api(&told);
        let config = format!("{}[[route]]\npath = \"/up\"\nretry = {{ attempts = 1 }}\n{config}", api.table("/up"));
        let server = TestServer::options().config(&config).start();
        let way = Way::start(server.addr(), &told);
        Self { api, server, way }
    }
}

/// Runs a recipe into every end that a call may come to.
fn assert_comes_to_every_end(scene: &Scene, run: impl Fn(&[(&str, String)]) -> Ran) {
    let Scene { api, server, way } = scene;
    let call = |trick: Trick, path: &str, more: &[(&'static str, &str)]| {
        way.play(trick);
        let mut variables = vec![("BGRS_URL", way.url()), ("BGRS_CALL", format!("{path}?bgrs=yes"))];
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let ran = run(&variables);
        way.assert_played();
        ran
    };
    let stops = |trick: Trick, path: &str, more: &[(&'static str, &str)], why: &str| {
        let ran = call(trick, path, more).expect(1);
        ran.says(why);
        assert!(ran.file.is_none(), "{path} left a file");
    };

    let ran = call(Trick::Loses, "/up/import", &[]).expect(0);
    ran.says(&format!("running 42.50 % {REPORT}"));
    assert!(ran.file == Some(rows()));
    assert_eq!((server.rows(), api.seen().len()), (1, 1), "it was submitted twice");
    // Never a part: whoever does not ask again has no file.
    let ran = call(Trick::Cuts("/result"), "/up/import", &[]);
    assert!(ran.file == (ran.code == 0).then(rows), "{} with another file: {}", ran.code, ran.said);

    let ran = run(&[("BGRS_URL", way.url())]).expect(0);
    assert_eq!(ran.file, Some(server.get("/v2.5/scans/export?t=csv").expect(200).text()));

    stops(Trick::Nothing, "/up/refused", &[], "the API answered 422: no such year");
    stops(Trick::Nothing, "/up/broken", &[], "failed: the upstream broke off");
    stops(Trick::Nothing, "/up/cancelled", &[], "cancelled: cancelled");
    stops(Trick::Forgets, "/up/slow", &[], "Not Found");
    stops(Trick::Nothing, "/up/slow", &[("BGRS_PATIENCE", "1")], "cancelled: it took too long");
    assert_eq!(server.info(&last_rid(api))["status_name"], "cancelled");
    server.leaves_nothing(|| stops(Trick::Nothing, "/up/slow", &[("BGRS_PASSWORD", "wrong")], "refused: "));
}

#[test]
fn the_recipe_for_curl_comes_to_every_end() {
    let Some(bash) = bash() else { return };
    let recipe = recipe("curl");
    assert_comes_to_every_end(&Scene::start(""), |variables| execute(&bash, "recipe.sh", recipe, variables));
}

#[test]
fn the_recipe_for_pythons_requests_comes_to_every_end() {
    let Some(python) = python("the recipe for Python's requests", "requests") else { return };
    let recipe = recipe("python-requests");
    assert_comes_to_every_end(&Scene::start(""), |variables| execute(&python, "recipe.py", recipe, variables));
}

#[test]
fn the_recipe_for_python_alone_comes_to_every_end() {
    let Some(python) = python("the recipe for Python alone", "urllib.request") else { return };
    let recipe = recipe("python-urllib");
    assert_comes_to_every_end(&Scene::start(""), |variables| execute(&python, "recipe.py", recipe, variables));
}

#[test]
fn the_recipe_for_php_comes_to_every_end() {
    let Some(php) = find("the recipe for PHP", &["php"]) else { return };
    let recipe = recipe("php");
    assert_comes_to_every_end(&Scene::start(""), |variables| execute(&php, "recipe.php", recipe, variables));
}

#[test]
fn the_recipe_for_javascript_comes_to_every_end_in_a_page() {
    let Some(chromium) = chromium() else { return };
    let page = page(recipe("javascript"));
    assert_comes_to_every_end(&Scene::start(&cors(&page)), |variables| browse(&chromium, &page, variables));
}

#[test]
fn the_recipe_for_javascript_comes_to_every_end_in_node() {
    let Some(node) = node() else { return };
    let recipe = recipe("javascript");
    assert_comes_to_every_end(&Scene::start(""), |variables| execute(&node, "recipe.mjs", recipe, variables));
}
