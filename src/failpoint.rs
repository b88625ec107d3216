//! Planned failures by place, so that tests can make the process die, or a step fail, exactly there.
//!
//! Compiled to nothing without the cargo feature `failpoints`. With it, `BGRS_FAILPOINT=<place>:<action>` in the
//! environment arms one place: `abort` ends the process as a power cut would (no destructor runs), `hold` stops the
//! thread there for good, for a test to kill the process at leisure.

/// Where a test can make the server fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A submission's body is durable, its row is not there yet.
    BeforeInsert,
    /// A submission's row is committed, the 202 is not sent.
    AfterInsert,
    /// A worker has claimed a request, the API has not seen it.
    Claimed,
    /// The first piece of a result is in its temporary file.
    HalfResult,
    /// The result's file is durable, its row does not know it.
    ResultWithoutRow,
    /// The row has ended, a confidential body is not wiped yet.
    EndedWithBody,
    /// Small results are in their rows' commits, their files are not synced.
    Unsettled,
    /// Expired rows are gone, their files are not.
    ExpiredWithFile,
    /// A callback was sent, its row does not know it.
    WebhookSent,
}

impl Place {
    #[cfg(feature = "failpoints")]
    const fn name(self) -> &'static str {
        match self {
            Self::BeforeInsert => "before-insert",
            Self::AfterInsert => "after-insert",
            Self::Claimed => "claimed",
            Self::HalfResult => "half-result",
            Self::ResultWithoutRow => "result-without-row",
            Self::EndedWithBody => "ended-with-body",
            Self::Unsettled => "unsettled",
            Self::ExpiredWithFile => "expired-with-file",
            Self::WebhookSent => "webhook-sent",
        }
    }
}

/// Fails here if the environment armed this place.
#[cfg(feature = "failpoints")]
pub fn reach(place: Place) {
    static ARMED: std::sync::OnceLock<Option<(String, String)>> = std::sync::OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let value = std::env::var("BGRS_FAILPOINT").ok()?;
        value.split_once(':').map(|(place, action)| (place.to_owned(), action.to_owned()))
    });
    let Some((_, action)) = armed.as_ref().filter(|(name, _)| name == place.name()) else { return };
    println!("failpoint {}", place.name());
    match action.as_str() {
        "abort" => std::process::abort(),
        _ => loop {
            std::thread::park();
        },
    }
}

/// Fails here if the environment armed this place: never, in this build.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_: Place) {}
