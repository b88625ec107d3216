//! What many operations have in common, in one place: the parameters of a background request, the errors, the schemas.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use serde_json::json;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{
    ArrayBuilder, Components, Object, ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, PathItem, Paths, PathsBuilder, RefOr, Required};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// `Content-Type` of most bodies.
const JSON: &str = "application/json";

/// An id as examples show it.
const RID: &str = "4ff7cc2d88b1de88e83cce3f1caa1509";

/// A signature as examples show it: the one of the specification.
const SIGNATURE: &str = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=";

/// Answers that any operation of the API may give, by what the server does around it.
const OF_API: [u16; 10] = [400, 401, 410, 422, 429, 500, 502, 503, 504, 507];

/// Those that an operation with a body may give, too.
const OF_BODIES: [u16; 2] = [408, 413];

/// Answers that any of the server's own operations may give.
const OF_OWN: [u16; 6] = [400, 401, 429, 500, 502, 503];

/// What they say.
const ANSWERS: [(u16, &str); 12] = [
    (400, "The call cannot be understood; the description says what is wrong with it."),
    (401, "Sign in with HTTP Basic credentials."),
    (408, "The body did not arrive in time; send it again without long pauses."),
    (410, "The request was cancelled: it has no result. Submit the call again."),
    (413, "The body is larger than what this server takes; send a smaller one."),
    (422, "This Idempotency-Key was used for another call; send each call with a key of its own."),
    (429, "Too many wrong passwords, or as many background requests as one user may have; try again after a while."),
    (500, "The server failed; its log says why. Try again later."),
    (502, "The call failed in the background, or an API behind this server gave no answer; try again."),
    (503, "The queue is full, or the server is shutting down or busy; try again in a few seconds."),
    (504, "The call took longer than it may in the background; allow it more time with bgrs_timeout."),
    (507, "The server cannot store anything now, its disk may be full; nothing was kept. Try again later."),
];

/// A background request was accepted.
#[derive(ToSchema)]
pub struct Accepted {
    /// The request's id, 32 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{32}$", examples("4ff7cc2d88b1de88e83cce3f1caa1509"))]
    pub request: String,
}

/// An error that the server makes.
#[derive(ToSchema)]
#[schema(as = Error)]
pub struct Failure {
    /// The reason phrase of the status.
    #[schema(examples("Not Found"))]
    pub error: String,
    /// One sentence that says what to do.
    #[schema(examples("There is nothing at this path; check its spelling."))]
    pub description: String,
}

/// What became of an element of a batch.
#[derive(ToSchema)]
#[schema(examples(json!({"status": 200, "body": "{\"id\":1603,\"name\":\"spring\"}"})))]
pub struct Outcome {
    /// The status of the element's call.
    pub status: u16,
    /// The text of its answer.
    pub body: String,
}

/// A batch, in descriptions: an array whose elements are the bodies of single calls.
pub struct Batch;

impl PartialSchema for Batch {
    fn schema() -> RefOr<Schema> {
        let array = ArrayBuilder::new()
            .items(Object::with_type(SchemaType::AnyValue))
            .description(Some(
                "A batch: one call for each element, with the element for its body; for PUT and DELETE with the id of \
                 the object in it. Elements fail one by one, so that any JSON is taken for one.",
            ))
            .examples([json!([{"id": 5, "name": "spring"}, {"id": 6, "name": "summer"}])]);
        RefOr::T(Schema::Array(array.build()))
    }
}

impl ToSchema for Batch {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Batch")
    }
}

/// The result of a batch, in descriptions.
pub struct Outcomes;

impl PartialSchema for Outcomes {
    fn schema() -> RefOr<Schema> {
        let array = ArrayBuilder::new()
            .items(Ref::from_schema_name("Outcome"))
            .description(Some("What became of each element of a batch, in their order."));
        RefOr::T(Schema::Array(array.build()))
    }
}

impl ToSchema for Outcomes {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Outcomes")
    }
}

/// The id in a path below `/bgrs`, in descriptions.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct InPath {
    /// The request's id.
    #[param(pattern = "^[0-9a-f]{32}$", example = "4ff7cc2d88b1de88e83cce3f1caa1509")]
    pub rid: String,
}

/// How to look at a request, in descriptions.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Look {
    /// Seconds for which the answer may be held until the request has ended; more than 60 are 60.
    #[param(minimum = 0, example = 20)]
    pub wait: Option<i64>,
    /// `1` shows more: method, started_dt, attempts, size and expires_dt.
    #[param(example = "1")]
    pub verbose: Option<String>,
}

/// The operations at a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// Adds to what an API says of itself what the server makes of it: calls in the background, and batches.
pub fn complete_api(api: &mut Document) {
    for (path, item) in &mut api.paths.paths {
        take_batches(path, item);
        for operation in operations(item) {
            let known = parameters().map(|parameter| parameter.name);
            let shared = known.map(|name| RefOr::Ref(Ref::new(format!("#/components/parameters/{name}"))));
            operation.parameters.get_or_insert_default().extend(shared);
            let accepted = RefOr::Ref(Ref::from_response_name("Accepted"));
            operation.responses.responses.entry("202".to_owned()).or_insert(accepted);
            let has_body = operation.request_body.is_some();
            refer(operation, &OF_API);
            refer(operation, if has_body { &OF_BODIES } else { &[] });
        }
    }
}

/// Adds what the server's own operations have in common; those that have a security of their own are open to all.
pub fn complete_own(own: &mut Document) {
    for item in own.paths.paths.values_mut() {
        for operation in operations(item).filter(|operation| operation.security.is_none()) {
            refer(operation, &OF_OWN);
        }
        for writing in [&mut item.post, &mut item.delete].into_iter().flatten() {
            refer(writing, &[507]);
        }
    }
}

/// Adds what is referred to, and a body to each error.
pub fn complete(document: &mut Document) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                if let (Ok(status), RefOr::T(response)) = (status.parse(), response) {
                    explain(status, response);
                }
            }
        }
    }
    document.security = Some(vec![SecurityRequirement::new("basic", Vec::<String>::new())]);
    document.webhooks = Some(webhooks());
    add_components(document.components.get_or_insert_default());
}

fn add_components(components: &mut Components) {
    let basic = "A login and its password, in UTF-8 (RFC 7617).";
    components.add_security_scheme("basic", scheme(HttpAuthScheme::Basic, basic));
    let report = "The Bgrs-Report-Token that came with the call whose progress is reported.";
    components.add_security_scheme("report", scheme(HttpAuthScheme::Bearer, report));
    for parameter in parameters() {
        components.parameters.insert(parameter.name.clone(), RefOr::T(parameter));
    }
    components.responses.insert("Accepted".to_owned(), RefOr::T(accepted()));
    for (status, description) in ANSWERS {
        components.responses.insert(name_of(status), RefOr::T(failure(status, description)));
    }
}

fn scheme(scheme: HttpAuthScheme, description: &str) -> SecurityScheme {
    SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(description)).build())
}

/// Refers to shared answers where an operation has none of its own for their status.
fn refer(operation: &mut Operation, statuses: &[u16]) {
    for status in statuses {
        let shared = RefOr::Ref(Ref::from_response_name(name_of(*status)));
        operation.responses.responses.entry(status.to_string()).or_insert(shared);
    }
}

/// The reason phrase of an error's status.
fn reason(status: u16) -> Option<&'static str> {
    let status = StatusCode::from_u16(status).ok()?;
    if status.is_client_error() || status.is_server_error() { status.canonical_reason() } else { None }
}

/// What a shared answer is called: its reason phrase, without what a name cannot have.
fn name_of(status: u16) -> String {
    reason(status).unwrap_or("Error").replace([' ', '-'], "")
}

fn failure(status: u16, description: &str) -> Response {
    let mut response = Response::new(description);
    explain(status, &mut response);
    let mut add = |name: &str, header: Header| response.headers.insert(name.to_owned(), RefOr::T(header));
    match status {
        401 => add("WWW-Authenticate", header(Type::String, "Asks for HTTP Basic credentials.")),
        429 | 503 => add("Retry-After", header(Type::Integer, "Seconds after which to try again.")),
        _ => None,
    };
    response
}

/// Gives an error that has no body yet the one that all have; its description is the example.
fn explain(status: u16, response: &mut Response) {
    let Some(reason) = reason(status).filter(|_| response.content.is_empty()) else { return };
    let mut content = Content::new(Some(Ref::from_schema_name("Error")));
    content.example = Some(json!({"error": reason, "description": response.description}));
    response.content.insert(JSON.to_owned(), RefOr::T(content));
}

fn accepted() -> Response {
    let link = |operation: &str, description: &str| {
        LinkBuilder::new()
            .operation_id(operation)
            .parameter("rid", "$response.body#/request")
            .description(description)
            .build()
    };
    let mut content = Content::new(Some(Ref::from_schema_name("Accepted")));
    content.example = Some(json!({"request": RID}));
    ResponseBuilder::new()
        .description("The call runs in the background, or will: a batch, or asked for with `bgrs` or `Prefer`.")
        .header("Location", header(Type::String, "Where the background request stands."))
        .header("Retry-After", header(Type::Integer, "Seconds after which to look at it."))
        .header("Preference-Applied", header(Type::String, "What of Prefer was done."))
        .header("Idempotency-Replayed", header(Type::String, "`true`: the key was used before, for this same call."))
        .content(JSON, content)
        .link("request", link("getRequest", "Where the request stands."))
        .link("result", link("getResult", "What came of it."))
        .build()
}

fn header(kind: Type, description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(description)).build()
}

/// What any call of the API may carry for the server.
fn parameters() -> [Parameter; 5] {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let values = ["yes", "no", "auto", "1", "0", "true", "false"];
    [
        parameter(
            ("bgrs", ParameterIn::Query),
            "`yes`, `1`, `true`: in the background. `no`, `0`, `false`: in the foreground, a batch too. `auto`: in the \
             background, and the answer is held for a while: where the call has ended by then, it is the result.",
            text().enum_values(Some(values)),
            "yes",
        ),
        parameter(
            ("bgrs_timeout", ParameterIn::Query),
            "The longest that the call may take; the header Bgrs-Timeout says it too.",
            text().pattern(Some("^[1-9][0-9]{0,5}(s|m|h)$")),
            "20m",
        ),
        parameter(
            ("bgrs_callback", ParameterIn::Query),
            "An https URL that is sent the request's object when it has ended; the header Bgrs-Callback names it too.",
            text().pattern(Some("^https://")),
            "https://hooks.example.com/bgrs",
        ),
        parameter(
            ("Prefer", ParameterIn::Header),
            "`respond-async`: as `bgrs=yes`; with `wait=N`: as `bgrs=auto`, held for N seconds (RFC 7240). `bgrs` goes \
             before.",
            text(),
            "respond-async, wait=10",
        ),
        parameter(
            ("Idempotency-Key", ParameterIn::Header),
            "In the background: the same key with the same call gives the same request, however often it is sent.",
            text().pattern(Some("^[!-~]+$")).min_length(Some(1)).max_length(Some(255)),
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
        ),
    ]
}

fn parameter((name, place): (&str, ParameterIn), description: &str, schema: ObjectBuilder, example: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(json!(example)))
        .build()
}

/// What the server takes for a batch: an array that is sent to a collection, by the rule of `http/batch.rs`.
fn take_batches(path: &str, item: &mut PathItem) {
    let Some(post) = item.post.as_mut().filter(|_| !path.ends_with('}')) else { return };
    if let Some(RefOr::T(body)) = &mut post.request_body
        && let Some(RefOr::T(content)) = body.content.get_mut(JSON)
    {
        add_choice(content, "Batch");
    } else {
        return;
    }
    if let Some(RefOr::T(response)) = post.responses.responses.get_mut("200")
        && let Some(RefOr::T(content)) = response.content.get_mut(JSON)
    {
        add_choice(content, "Outcomes");
    }
}

fn add_choice(content: &mut Content, name: &str) {
    if let Some(one) = content.schema.take() {
        let either = OneOfBuilder::new().item(one).item(Ref::from_schema_name(name));
        content.schema = Some(RefOr::T(Schema::OneOf(either.build())));
    }
}

/// What the server sends by itself: callbacks.
fn webhooks() -> Paths {
    let sent = |name, description: &str, example: &str| {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        parameter((name, ParameterIn::Header), description, schema, example)
    };
    let body = RequestBodyBuilder::new()
        .description(Some("The request as GET /bgrs/{rid} shows it, without the array."))
        .content(JSON, Content::new(Some(Ref::from_schema_name("Information"))))
        .build();
    let operation = OperationBuilder::new()
        .operation_id(Some("requestEnded"))
        .summary(Some("A background request has ended"))
        .description(Some(
            "Sent to the URL of `bgrs_callback`, signed as the Standard Webhooks specification says; again, with \
             growing rests and for a day, until it is answered with 2xx. Redirects are not followed.",
        ))
        .parameter(sent("webhook-id", "The same for each attempt.", "msg_4ff7cc2d88b1de88e83cce3f1caa1509"))
        .parameter(sent("webhook-timestamp", "Seconds since 1970.", "1514312512"))
        .parameter(sent("webhook-signature", "By `webhooks.secret`.", SIGNATURE))
        .request_body(Some(body))
        .response("2XX", Response::new("The delivery is taken; it is not sent again."))
        .build();
    PathsBuilder::new().path("requestEnded", PathItem::new(HttpMethod::Post, operation)).build()
}
