//! The chunked coding, for answers to which the library does not give it.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{Bytes, BytesMut};

/// A body in chunks (RFC 9112 section 7.1): one that breaks off has no last chunk, and is not taken for a whole one.
pub struct Chunks {
    /// `None`: the last chunk is sent.
    body: Option<BoxBody>,
}

impl Chunks {
    /// Of this body.
    pub fn of(body: BoxBody) -> Self {
        Self { body: Some(body) }
    }
}

impl MessageBody for Chunks {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        loop {
            return match std::task::ready!(Pin::new(&mut *body).poll_next(cx)) {
                // One of no bytes would be the last.
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => Poll::Ready(Some(Ok(chunk(&bytes)))),
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                None => {
                    self.body = None;
                    Poll::Ready(Some(Ok(Bytes::from_static(b"0\r\n\r\n"))))
                }
            };
        }
    }
}

fn chunk(bytes: &[u8]) -> Bytes {
    let size = format!("{:x}\r\n", bytes.len());
    let mut chunk = BytesMut::with_capacity(size.len() + bytes.len() + 2);
    chunk.extend_from_slice(size.as_bytes());
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk.freeze()
}
