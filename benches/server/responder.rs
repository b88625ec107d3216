//! The raw responder: fixed bytes for each request. Against it, the load client shows its own ceiling.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed; prints where it listens.
pub fn serve(port: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(converse(stream));
        }
    })
}

/// A broken connection is its caller's to complain about.
async fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    let submission = accepted();
    let information = found();
    let mut buffer = vec![0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            let submits = buffer.starts_with(b"GET /v2.5/");
            let answer = if submits { &submission } else { &information };
            stream.write_all(answer.as_bytes()).await?;
            filled = 0;
        }
    }
}

fn accepted() -> String {
    let rid = "019a0000000000000000000000000000";
    let body = format!("{{\"request\": \"{rid}\"}}");
    format!(
        "HTTP/1.1 202 Accepted\r\nContent-Length: {}\r\nLocation: /bgrs/{rid}\r\nRetry-After: 1\r\n\
         Cache-Control: no-store\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{body}",
        body.len()
    )
}

fn found() -> String {
    let body = "x".repeat(360);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Type: application/json; charset=utf-8\r\n\r\n{body}",
        body.len()
    )
}
