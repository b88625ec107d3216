//! `bgrs-server check`: reading the configuration is the check; what is wrong was said by then. And what the
//! configuration says of a call.

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::Uri;
use actix_web::{App, HttpResponse};
use bgrs::dispatch::upstream::Connectors;
use bgrs::{Config, api};
use clap::Args;

use super::explain::{self, Call, Seen};
use super::{Failure, say};

/// What to say.
#[derive(Args)]
pub struct Arguments {
    /// Say which rule holds for such a call, and what it means.
    #[arg(long, num_args = 2, value_names = ["METHOD", "PATH"])]
    explain: Option<Vec<String>>,
}

/// Says that all is well and what the paths came to, or what holds for a call.
pub async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    Connectors::new(&config.upstreams).map_err(|why| Failure::usage(format!("upstream: {why}")))?;
    let Some(named) = arguments.explain else {
        say(format_args!("the configuration is right"));
        say(format_args!("  database  {}", config.store.database.display()));
        say(format_args!("  key file  {}", config.store.key_file.display()));
        say(format_args!("  media     {}", config.media.dir.display()));
        return Ok(());
    };
    let [method, target] = named.as_slice() else {
        return Err(Failure::usage("--explain takes one METHOD and one PATH"));
    };
    let call = Call::parse(method, target).map_err(Failure::usage)?;
    let seen = look(config.server.hosted_api, call.uri.clone()).await?;
    explain::lines(&config, &call, &seen).into_iter().for_each(say);
    Ok(())
}

/// Asks the router that the server has, with the hosted API's routes where it has them. No handler is called.
async fn look(hosted: bool, uri: Uri) -> Result<Seen, Failure> {
    let app = App::new()
        .wrap_fn(|req, _| {
            let path = req.match_info().as_str().to_owned();
            let route = req.resource_map().match_pattern(&path);
            let mut answer = HttpResponse::NoContent().finish();
            answer.extensions_mut().insert(Seen { path, route });
            let answered: Result<ServiceResponse, actix_web::Error> = Ok(req.into_response(answer));
            std::future::ready(answered)
        })
        .configure(|cfg| {
            if hosted {
                api::configure(cfg);
            }
        });
    let unread = || Failure::refused("the routes of the hosted API cannot be read");
    let service = app.into_factory().new_service(AppConfig::default()).await.map_err(|()| unread())?;
    let mut request = Request::new();
    request.head_mut().uri = uri;
    let answer = service.call(request).await.map_err(Failure::refused)?;
    let seen = answer.response().extensions().get::<Seen>().cloned();
    seen.ok_or_else(unread)
}
