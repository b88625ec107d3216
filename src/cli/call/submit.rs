//! Submitting the call, again where that is safe.

use std::thread;
use std::time::Duration;

use ureq::http::{StatusCode, header};
use url::Url;

use super::client::{self, Answer, Client};
use super::options::Submission;
use super::place::Place;
use super::{Failure, refused, text};

/// How often it is sent at most.
const TRIES: u32 = 4;

/// The rest after the first time; it doubles.
const REST: Duration = Duration::from_millis(250);

/// Submits it; where the request is.
pub fn submit(client: &Client, url: &Url, submission: &mut Submission) -> Result<Place, Failure> {
    let mut rest = REST;
    for _ in 1..TRIES {
        match client.submit(url, submission) {
            Ok(answer) => return accepted(url, answer),
            Err(error) if client::out_of_reach(&error) => {}
            Err(error) if client::broke_off(&error) && submission.is_repeatable() => {}
            Err(error) => return Err(lost(url, &error)),
        }
        thread::sleep(rest);
        rest *= 2;
    }
    match client.submit(url, submission) {
        Ok(answer) => accepted(url, answer),
        Err(error) => Err(lost(url, &error)),
    }
}

fn lost(url: &Url, error: &ureq::Error) -> Failure {
    let why = client::explain(url.as_str(), error);
    if client::broke_off(error) {
        // A server that refuses a body does not wait for its end, and its answer may be gone with the connection.
        return refused(format!("{why}; whether the call was accepted is not known: GET /bgrs lists your requests"));
    }
    refused(why)
}

fn accepted(url: &Url, answer: Answer) -> Result<Place, Failure> {
    let status = answer.status();
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if status == StatusCode::ACCEPTED
        && let Some(place) = location.as_deref().and_then(|location| Place::named(location, url))
    {
        return Ok(place);
    }
    if status.is_success() {
        return Err(refused(format!(
            "the server answers {} itself, without a background request: it is no bgrs-server, or not for this URL",
            client::status(status)
        )));
    }
    if status.is_redirection() {
        let to = location.map_or_else(|| "elsewhere".to_owned(), |to| text::one_line(&to));
        let status = client::status(status);
        return Err(refused(format!(
            "the server answers {status}, to {to}; redirects are not followed: call that URL"
        )));
    }
    let hint = if status == StatusCode::UNAUTHORIZED { "; name the login with -u" } else { "" };
    Err(refused(format!("the server answers {}{hint}", client::complaint(answer))))
}
