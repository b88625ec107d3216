//! The composition root: the one place that names concrete backends, and the order of start and shutdown.

use std::env::VarError;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use async_trait::async_trait;
use tokio::task::JoinHandle;

use crate::accounts::Accounts;
use crate::auth::Authenticator;
use crate::auth::forward::{Ask, Forward};
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::dispatch::upstream::{self, Asker, AtUpstream, Connectors, Switch};
use crate::dispatch::{Batch, Dispatch, InProcess, Routes};
use crate::http::accept::{self, Accept};
pub use crate::http::cors::Cors;
use crate::http::openapi::{Described, Description};
use crate::http::{self, Bounds, Live, Precheck, Shared, SignedIn};
use crate::media::Media;
use crate::media::fs::FsMedia;
use crate::model::Headers;
use crate::scheduler::{Limits, Scheduler};
use crate::stats::Stats;
use crate::store::sqlite::Sqlite;
use crate::store::{self, Callbacks, Campaigns, Cancelled, Sessions, Store, Users};
use crate::vault::Key;
use crate::watch::Watchers;
use crate::webhooks::{Client, Secret};
use crate::worker::{Deliverer, Leases, Maintenance, Options, Pool, Retries, Runner, Settler};

/// Why the server does not start: one line that names the configuration's key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Error {
    key: &'static str,
    why: String,
}

impl Error {
    pub(crate) fn new(key: &'static str, why: impl ToString) -> Self {
        Self { key, why: why.to_string() }
    }

    fn at(key: &'static str, path: &Path, why: impl std::fmt::Display) -> Self {
        Self::new(key, format!("{}: {why}", path.display()))
    }
}

/// What is to be started.
pub struct Builder {
    config: Config,
    api: Routes,
    versions: &'static [&'static str],
    precheck: Precheck,
    description: Option<Description>,
    clock: Arc<dyn Clock>,
    address: Option<String>,
}

impl Builder {
    /// A server of this configuration that hosts no API yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            api: Arc::new(|_| {}),
            versions: &[],
            precheck: |_, _| Ok(()),
            description: None,
            clock: Arc::new(clock::System),
            address: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The hosted API's routes. They are registered on several Apps: one for each HTTP thread, and one for each thread
    /// that runs background calls. What they share must be behind `Arc`s that the closure holds.
    #[must_use]
    pub fn api(mut self, routes: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static) -> Self {
        self.api = Arc::new(routes);
        self
    }

    /// The API's versions, the newest last: `/v{version}/bgrs/…` answers as `/bgrs/…` does.
    #[must_use]
    pub fn versions(mut self, versions: &'static [&'static str]) -> Self {
        self.versions = versions;
        self
    }

    /// Looks at each API call before anything of it is stored, and may refuse it.
    #[must_use]
    pub fn precheck(mut self, precheck: Precheck) -> Self {
        self.precheck = precheck;
        self
    }

    /// What the hosted API says of itself, for `/openapi.json`: its paths as they are registered, version included.
    #[must_use]
    pub fn openapi(mut self, description: Description) -> Self {
        self.description = Some(description);
        self
    }

    /// Another clock than the machine's, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The URL at which upstreams reach the server, where the configuration's `server.public_url` names none.
    #[must_use]
    pub fn address(mut self, url: Option<String>) -> Self {
        self.address = url;
        self
    }

    /// Opens the store and the media, sets right what the last process left, and starts the workers on the current
    /// runtime.
    ///
    /// # Errors
    /// What is wrong with database, media folder or key file; nothing of theirs was changed then.
    pub async fn start(self) -> Result<Bgrs, Error> {
        let Self { config, api, versions, precheck, description, clock, address } = self;
        let hosts = config.server.hosted_api;
        let document = Described::new(config.server.mount.clone(), description.filter(|_| hosts));
        let api = if hosts { api } else { no_api() };
        let Opened { store, media, lock, key, connectors, client } = open(&config).await?;
        let media: Arc<dyn Media> = Arc::new(media);
        let asker = Asker::new(config.upstreams.clone(), &connectors);
        let forward = Forward::new(Arc::new(asker)).map_err(|error| Error::new("auth", error))?;
        let users: Arc<dyn Users> = Arc::new(store.clone());
        let campaigns: Arc<dyn Campaigns> = Arc::new(store.clone());
        let callbacks: Arc<dyn Callbacks> = Arc::new(store.clone());
        let sessions: Arc<dyn Sessions> = Arc::new(store.clone());
        let figures: Arc<dyn store::Stats> = Arc::new(store.clone());
        let deliverer = Deliverer::new(callbacks.clone(), client, clock.clone());
        let store: Arc<dyn Store> = Arc::new(store);
        let auth = Authenticator::new(users.clone()).map_err(|error| Error::new("auth", error))?;
        let auth = Arc::new(auth);
        let accounts = Arc::new(Accounts::new(users, media.clone(), clock.clone(), auth.clone()));
        let background = &config.background;
        let scheduler = Scheduler::new(Limits { queue: background.queue, per_user: background.per_user });
        let watchers = Watchers::default();
        let leases = Leases::default();
        let stats = Stats::new(figures, scheduler.clone(), clock.clone());
        let live = Live::new(store.clone(), watchers.clone());
        let maintenance = Maintenance {
            store: store.clone(),
            media: media.clone(),
            clock: clock.clone(),
            scheduler: scheduler.clone(),
            watchers: watchers.clone(),
            leases: leases.clone(),
            deliverer: deliverer.clone(),
            sessions: sessions.clone(),
            stats: stats.clone(),
            attempts: i64::from(background.attempts),
            keep: config.media.keep,
        };
        scheduler.restore(store.unended().await.map_err(|error| Error::new("store.database", error))?);
        let settler = Settler::new(store.clone(), media.clone());
        settler.at_start().await.map_err(|error| Error::new("media.dir", error))?;
        maintenance.at_start().await.map_err(|error| Error::new("store.database", error))?;
        // So late: a start that fails must not have made a password that nobody has seen.
        let administrator = ensure_administrator(&accounts).await?;
        let routes = with_data(api, &accounts, &campaigns, &clock);
        let hosted = InProcess::start(background.threads, &routes).map_err(|e| Error::new("background.threads", e))?;
        let at_upstream = AtUpstream::new(config.upstreams.clone(), &connectors);
        let switch = Switch::new(Arc::new(hosted), at_upstream);
        let dispatch: Arc<dyn Dispatch> = Arc::new(Batch::new(Arc::new(switch)));
        let retries = Retries::new(scheduler.clone(), clock.clone());
        retries.restore(store.retrying().await.map_err(|error| Error::new("store.database", error))?);
        let base = Some(config.server.public_url.clone()).filter(|url| !url.is_empty()).or(address);
        let mount = config.server.mount.clone();
        let policies = config.policies.clone().hosting(versions);
        let runner = Runner {
            store: store.clone(),
            media: media.clone(),
            dispatch: dispatch.clone(),
            clock: clock.clone(),
            watchers: watchers.clone(),
            settler: settler.clone(),
            deliverer: deliverer.clone(),
            stats: stats.clone(),
            leases: leases.clone(),
            policies: policies.clone(),
            key: key.clone(),
            reports: base.map(|base| format!("{base}{mount}/bgrs")),
            keep: config.media.keep,
        };
        let upkeep = vec![
            tokio::spawn(leases.clone().keep(store.clone(), clock.clone())),
            tokio::spawn(maintenance.clone().keep_up()),
            tokio::spawn(settler.clone().keep_up()),
            tokio::spawn(retries.clone().keep_up()),
            tokio::spawn(deliverer.clone().keep_up()),
            tokio::spawn(live.clone().keep_up()),
            tokio::spawn(stats.clone().keep_up()),
        ];
        let sleepers = retries.clone();
        let pool = Pool::start(runner, scheduler.clone(), retries, Options { concurrency: background.concurrency });
        let (adopter, starter) = (pool.adopter(), pool.starter());
        let bounds = Bounds {
            max_body: config.server.max_body,
            read_timeout: config.server.read_timeout,
            body_timeout: config.server.body_timeout,
        };
        let under_way = http::under_way::UnderWay::default();
        let shared = Shared {
            store,
            media,
            dispatch,
            auth,
            clock,
            scheduler,
            watchers,
            bounds,
            versions,
            hosts,
            precheck,
            upstreams: config.upstreams,
            client: upstream::Client::new(&connectors),
            policies,
            forward,
            trusted_proxies: config.server.trusted_proxies,
            key,
            mount,
            auto_wait: background.auto_wait,
            max_wait: background.max_wait,
            keep: config.media.keep,
            lease: Leases::end,
            begin: Arc::new(move |place| {
                starter.start(place).map(|start| -> http::Start { Box::new(move |claimed| start.run(claimed)) })
            }),
            adopt: Arc::new(move |claimed, turn, under_way| adopter.adopt(claimed, turn, under_way)),
            drop_cancelled: Arc::new(move |rid, cancelled| match cancelled {
                Cancelled::Running(claim) => leases.cancel(*claim),
                Cancelled::Retrying(owner) => sleepers.cancel(owner, rid),
                Cancelled::Queued | Cancelled::Ended => {}
            }),
            callbacks,
            deliver: Arc::new(move || deliverer.wake()),
            allow: config.webhooks.allow.into(),
            stats,
            live,
            signed_in: SignedIn::new(sessions),
            document,
            under_way,
        };
        let mount = Mount { shared: Arc::new(shared), routes };
        Ok(Bgrs { mount, pool, upkeep, maintenance, settler, administrator, _lock: lock })
    }
}

/// What a start opens.
struct Opened {
    store: Sqlite,
    media: FsMedia,
    lock: File,
    key: Key,
    connectors: Connectors,
    client: Client,
}

fn no_api() -> Routes {
    Arc::new(|_| {})
}

/// Opens everything that lies on the disk, off the async thread.
async fn open(config: &Config) -> Result<Opened, Error> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || open_blocking(&config)).await;
    let opened = opened.map_err(|error| Error::new("store.database", error))??;
    if opened.media.limit() > 0 {
        opened.media.set_used(opened.store.bytes().await.map_err(|error| Error::new("store.database", error))?);
    }
    Ok(opened)
}

fn open_blocking(config: &Config) -> Result<Opened, Error> {
    // First: it leaves nothing behind where it fails.
    let connectors = Connectors::new(&config.upstreams).map_err(|error| Error::new("upstream", error))?;
    let dir = &config.media.dir;
    if dir.exists() {
        probe(dir).map_err(|error| Error::at("media.dir", dir, format!("cannot be written: {error}")))?;
    }
    let store = open_store(config)?;
    let lock = lock(&config.store.database)?;
    let key_file = &config.store.key_file;
    let key = Key::load_or_create(key_file).map_err(|error| Error::at("store.key_file", key_file, error))?;
    let media = FsMedia::open(dir, key.clone(), config.media.max_size)
        .map_err(|error| Error::at("media.dir", dir, format!("cannot be written: {error}")))?;
    let client = client(&config.webhooks)?;
    Ok(Opened { store, media, lock, key, connectors, client })
}

/// What sends callbacks, with the secret that is configured or the one of the file.
fn client(webhooks: &config::Webhooks) -> Result<Client, Error> {
    let file = &webhooks.secret_file;
    let secret = match &webhooks.secret {
        Some(secret) => secret.clone(),
        None => Secret::load_or_create(file).map_err(|error| Error::at("webhooks.secret_file", file, error))?,
    };
    Client::new(&secret, webhooks.allow.clone().into()).map_err(|error| Error::new("webhooks", error))
}

/// Opens the database alone, as the `user` commands do, also while a server runs on it. Blocks.
///
/// # Errors
/// A file that is no database of this server, or that cannot be written.
pub fn open_store(config: &Config) -> Result<Sqlite, Error> {
    let path = &config.store.database;
    Sqlite::open(path, config.store.durability).map_err(|error| Error::at("store.database", path, error))
}

/// Opens users and media for the `user` commands.
///
/// # Errors
/// As [`open_store`], and for the media folder and the key file.
pub async fn open_accounts(config: &Config) -> Result<Accounts, Error> {
    let owned = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = open_store(&owned)?;
        let key = Key::load_or_create(&owned.store.key_file)
            .map_err(|error| Error::at("store.key_file", &owned.store.key_file, error))?;
        let dir = &owned.media.dir;
        let media = FsMedia::open(dir, key, 0).map_err(|error| Error::at("media.dir", dir, error))?;
        Ok((store, media))
    });
    let (store, media) = opened.await.map_err(|error| Error::new("store.database", error))??;
    let users: Arc<dyn Users> = Arc::new(store);
    let auth = Authenticator::new(users.clone()).map_err(|error| Error::new("auth", error))?;
    Ok(Accounts::new(users, Arc::new(media), Arc::new(clock::System), Arc::new(auth)))
}

fn probe(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".bgrs.{}.probe", std::process::id()));
    File::create(&probe)?;
    std::fs::remove_file(probe)
}

/// One server for each database: a second one would take the first one's running requests for lost.
fn lock(database: &Path) -> Result<File, Error> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::create(&path).map_err(|error| Error::at("store.database", &path, error))?;
    file.try_lock().map_err(|_| Error::at("store.database", database, "another bgrs-server is running on it"))?;
    Ok(file)
}

/// Makes the first administrator where there is none, and says what the password is if it made one up.
///
/// # Errors
/// When the password of `BGRS_ADMIN_PASSWORD` cannot be one, or the users cannot be read or written.
pub async fn ensure_administrator(accounts: &Accounts) -> Result<Option<Administrator>, Error> {
    let password = match std::env::var("BGRS_ADMIN_PASSWORD") {
        Ok(password) => Some(password),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(Error::new("BGRS_ADMIN_PASSWORD", "its value is not UTF-8")),
    };
    let made = accounts.ensure_administrator(password).await;
    let made = made.map_err(|error| Error::new("BGRS_ADMIN_PASSWORD", error))?;
    Ok(made.map(|(login, password)| Administrator { login, password }))
}

/// The administrator that the start has made.
pub struct Administrator {
    /// The login.
    pub login: String,
    /// The password, if it is a random one: nobody can read it again.
    pub password: Option<String>,
}

impl std::fmt::Display for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let login = &self.login;
        match &self.password {
            Some(password) => {
                write!(f, "administrator {login} made; the password, shown only this once: {password}")
            }
            None => write!(f, "administrator {login} made, with the password of BGRS_ADMIN_PASSWORD"),
        }
    }
}

/// The hosted API's routes with what its handlers ask for.
fn with_data(api: Routes, accounts: &Arc<Accounts>, campaigns: &Arc<dyn Campaigns>, clock: &Arc<dyn Clock>) -> Routes {
    let (accounts, campaigns, clock) = (accounts.clone(), campaigns.clone(), clock.clone());
    Arc::new(move |cfg| {
        cfg.app_data(web::Data::from(accounts.clone()))
            .app_data(web::Data::from(campaigns.clone()))
            .app_data(web::Data::from(clock.clone()));
        api(cfg);
    })
}

#[async_trait]
impl Ask for Asker {
    async fn ask(&self, source: &str, credentials: &Headers) -> Result<Option<String>, String> {
        Self::ask(self, source, credentials).await
    }
}

/// A running server, apart from its HTTP side.
pub struct Bgrs {
    mount: Mount,
    pool: Pool,
    upkeep: Vec<JoinHandle<()>>,
    maintenance: Maintenance,
    settler: Settler,
    administrator: Option<Administrator>,
    _lock: File,
}

impl Bgrs {
    /// What goes onto each App.
    #[must_use]
    pub fn mount(&self) -> Mount {
        self.mount.clone()
    }

    /// The upkeep, for tests that do not want to wait for its hour.
    #[must_use]
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// The administrator that this start has made, if there was none.
    #[must_use]
    pub fn administrator(&self) -> Option<&Administrator> {
        self.administrator.as_ref()
    }

    /// Accepts nothing new, gives what is under way until `grace` is over, and puts the rest back in the queue.
    pub async fn shut_down(self, grace: Duration) {
        let shared = &self.mount.shared;
        shared.scheduler.close();
        shared.watchers.close();
        let calls = async {
            while shared.under_way.count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (calls, ()) = tokio::join!(tokio::time::timeout(grace, calls), self.pool.shut_down(grace));
        if calls.is_err() {
            log::warn!("{} calls did not end in time and are cut off", shared.under_way.count());
        }
        self.upkeep.iter().for_each(JoinHandle::abort);
        shared.stats.write().await;
        if let Err(error) = self.settler.settle().await {
            log::warn!("results are left for the next start to sync: {error}");
        }
    }
}

/// The middleware and the routes, for an App of one's own:
///
/// ```no_run
/// # async fn start(builder: bgrs::Builder) -> anyhow::Result<()> {
/// use actix_web::{App, HttpServer};
///
/// let bgrs = builder.start().await?;
/// let mount = bgrs.mount();
/// HttpServer::new(move || {
///     App::new().wrap(mount.middleware()).configure(|cfg| mount.configure(cfg))
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await?;
/// bgrs.shut_down(std::time::Duration::from_secs(30)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mount {
    shared: Arc<Shared>,
    routes: Routes,
}

impl Mount {
    /// The middleware that knows the caller and turns calls into background requests; the outermost one.
    #[must_use]
    pub fn middleware(&self) -> Accept {
        Accept::new(self.shared.clone())
    }

    /// Registers the server's own routes, the hosted API's, and the answer to everything else.
    pub fn configure(&self, cfg: &mut web::ServiceConfig) {
        http::configure(cfg, &self.shared);
        (self.routes)(cfg);
        cfg.default_service(web::to(accept::nowhere));
    }
}
