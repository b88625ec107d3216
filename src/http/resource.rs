//! A resource that answers a wrong method with 405 and `Allow`, and HEAD wherever it answers GET.

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, HttpRequest};
use actix_web::{Handler, Resource, Responder, web};

use super::error::Error;

/// Builds a [`Resource`] method by method.
pub struct Methods {
    resource: Resource,
    allow: Vec<&'static str>,
}

/// Begins a resource at `path`, in actix-web's pattern syntax.
#[must_use]
pub fn resource(path: &str) -> Methods {
    Methods { resource: web::resource(path), allow: Vec::new() }
}

impl Methods {
    /// GET and HEAD.
    #[must_use]
    pub fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::GET, "GET", handler.clone()).on(Method::HEAD, "HEAD", handler)
    }

    /// POST.
    #[must_use]
    pub fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::POST, "POST", handler)
    }

    /// PUT.
    #[must_use]
    pub fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::PUT, "PUT", handler)
    }

    /// DELETE.
    #[must_use]
    pub fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::DELETE, "DELETE", handler)
    }

    /// The finished resource.
    #[must_use]
    pub fn build(self) -> Resource {
        let allow = self.allow.join(", ");
        self.resource.default_service(web::to(move |_: HttpRequest| {
            let allow = allow.clone();
            async move { Err::<actix_web::HttpResponse, _>(not_allowed(&allow)) }
        }))
    }

    fn on<F, Args>(mut self, method: Method, name: &'static str, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::method(method).to(handler));
        self.allow.push(name);
        self
    }
}

fn not_allowed(allow: &str) -> Error {
    let error = Error::new(StatusCode::METHOD_NOT_ALLOWED, format!("Use one of the methods {allow} here."));
    match HeaderValue::from_str(allow) {
        Ok(value) => error.with(header::ALLOW, value),
        Err(_) => error,
    }
}
