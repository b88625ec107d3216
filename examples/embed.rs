//! An API of one's own behind bgrs, in a screenful:
//!
//! ```sh
//! BGRS_ADMIN_PASSWORD=secret cargo run --example embed
//! curl -u admin:secret 'http://127.0.0.1:8080/primes?below=1000000&bgrs=yes'
//! ```
//!
//! `BGRS_SERVER__LISTEN` and the other variables of `bgrs.toml`'s keys say where it listens and stores.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use bgrs::{Builder, Caller, Config, Error, resource};

/// An ordinary actix-web handler. It does not know whether it runs in the foreground or in the background.
async fn primes(caller: Caller, query: web::Query<HashMap<String, String>>) -> Result<HttpResponse, Error> {
    let below = query.get("below").and_then(|below| below.parse::<u32>().ok());
    let below = below.ok_or_else(|| Error::bad_request("below takes a whole number."))?;
    // Work that blocks belongs on a thread that may be blocked.
    let count = web::block(move || count_primes(below)).await.map_err(|_| Error::internal())?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"user": caller.user_id, "below": below, "primes": count})))
}

fn count_primes(below: u32) -> usize {
    (2..below).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(None, std::env::vars_os())?;
    let builder = Builder::new(config).api(|cfg| {
        cfg.service(resource("/primes").get(primes).build());
    });
    Ok(bgrs::serve(builder).await?)
}
