//! What all operations of the API have in common, for its description.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, RefOr, Required, Response};

/// Adds the formats of the answers, and how bodies may be sent.
pub struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        for (path, item) in &mut api.paths.paths {
            // A PUT of one object may carry its fields in the query instead.
            let is_object = path.ends_with('}');
            for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
                add_formats(operation);
                complete_body(operation, if is_object { Required::False } else { Required::True });
            }
        }
    }
}

fn complete_body(operation: &mut Operation, required: Required) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    body.required = Some(required);
    let refused = Response::new("Send JSON, with Content-Type: application/json.");
    operation.responses.responses.entry("415".to_owned()).or_insert(RefOr::T(refused));
}

fn add_formats(operation: &mut Operation) {
    operation.parameters.get_or_insert_default().push(RefOr::T(format()));
    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut("200") {
        let csv = Content::new(Some(Object::with_type(Type::String)));
        response.content.insert("text/csv".to_owned(), RefOr::T(csv));
    }
}

fn format() -> Parameter {
    let formats = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["json", "csv"]));
    ParameterBuilder::new()
        .name("t")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("The answer's format: JSON, or CSV with a header row (RFC 4180). Errors are JSON."))
        .schema(Some(formats))
        .build()
}
