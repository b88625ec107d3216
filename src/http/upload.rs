//! A call's body on its way to an upstream, as it comes from the caller.

use std::io;
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use actix_web::error::PayloadError;
use actix_web::http::header;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;

use super::submit;
use crate::dispatch::upstream::{Body, streamed};

/// Pieces of a body between the two connections: back-pressure on the caller.
const PIECES: usize = 4;

/// Passes the body on while it is polled.
///
/// It is a part of the call's future, not a task: what the library says of a body that HTTP forbids can be answered only
/// at once, before it closes the connection.
pub type Upload = LocalBoxFuture<'static, Result<Passed, Broken>>;

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// All of it was passed on.
    Whole,
    /// The upstream wants no more of it: it has answered, or is gone.
    Unwanted,
}

/// Why a body does not come to its end: it is not the upstream that is at fault.
#[derive(Debug)]
pub enum Broken {
    /// The caller hung up, or sent what HTTP forbids.
    Off(PayloadError),
    /// The caller has stopped to send.
    Slow,
}

/// What is between the two connections.
enum Piece {
    Data(Bytes),
    /// Behind the last: a body without it was given up, and is not to look as if it were whole.
    End,
}

/// A call's body as the upstream gets it, with its length where that is said; `None`: the call has none. An upload that is
/// dropped breaks it off.
pub fn of(req: &mut ServiceRequest, silence: Duration) -> Option<(Body, Option<u64>, Upload)> {
    if !submit::has_body(req) {
        return None;
    }
    let length = req.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut payload = req.take_payload();
    let (pieces, received) = mpsc::channel(PIECES);
    let upload = async move {
        loop {
            let next = tokio::time::timeout(silence, payload.next());
            let piece = tokio::select! {
                () = pieces.closed() => return Ok(Passed::Unwanted),
                piece = next => piece.map_err(|_| Broken::Slow)?,
            };
            let (piece, is_end) = match piece {
                Some(piece) => (Piece::Data(piece.map_err(Broken::Off)?), false),
                None => (Piece::End, true),
            };
            if pieces.send(piece).await.is_err() {
                return Ok(Passed::Unwanted);
            }
            if is_end {
                return Ok(Passed::Whole);
            }
        }
    };
    let stream = futures_util::stream::unfold(Some(received), |received| async move {
        let mut received = received?;
        match received.recv().await {
            Some(Piece::Data(bytes)) => Some((Ok(bytes), Some(received))),
            Some(Piece::End) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    });
    Some((streamed(stream), length, Box::pin(upload)))
}

/// Polls an upload, if there is one.
pub async fn pass(upload: &mut Option<Upload>) -> Result<Passed, Broken> {
    match upload {
        Some(upload) => upload.await,
        None => std::future::pending().await,
    }
}
