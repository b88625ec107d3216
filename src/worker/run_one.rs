//! One attempt at one request: claim it, perform the call, make the answer durable, end the row.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};

use super::lease::Leases;
use super::settle::Settler;
use crate::clock::Clock;
use crate::dispatch::{self, Dispatch, Replay, Response};
use crate::failpoint::{self, Place};
use crate::media::{self, File, Media, Stored, result_name};
use crate::model::time::Keep;
use crate::model::{Answer, Failure, FailureKind, Outcome, Owner};
use crate::progress::{Listener, Progress};
use crate::store::{self, Claimed, Ending, Store};
use crate::watch::Watchers;

/// How long to wait before what the store refused at a request's end is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The time between two reports of a handler's progress to the store.
const REPORTS: Duration = Duration::from_millis(250);

/// What one turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The owner had nothing waiting.
    Nothing,
    /// A request was run to its end.
    Ended,
    /// A request was taken away in the middle: its hold is lost, or the server is shutting down and it waits again.
    Dropped,
}

/// Runs requests one at a time; a pool runs many of these. Tests drive it without a pool.
#[derive(Clone)]
pub struct Runner {
    /// The rows.
    pub store: Arc<dyn Store>,
    /// The bytes.
    pub media: Arc<dyn Media>,
    /// The API.
    pub dispatch: Arc<dyn Dispatch>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who waits for ends.
    pub watchers: Watchers,
    /// Who makes small results durable.
    pub settler: Settler,
    /// The holds.
    pub leases: Leases,
    /// The longest that a call may take.
    pub timeout: Duration,
    /// How long results are kept.
    pub keep: Keep,
}

impl Runner {
    /// Claims and runs the owner's oldest waiting request. When `stop` returns first, what runs is put back in the
    /// queue, or ended where it is not safe to repeat.
    ///
    /// # Errors
    /// Only when the claim fails: nothing was taken then.
    pub async fn run_one(&self, owner: &Owner, stop: impl Future<Output = ()>) -> store::Result<Run> {
        let Some(claimed) = self.claim(owner).await? else { return Ok(Run::Nothing) };
        Ok(self.run(claimed, stop, || None).await.0)
    }

    /// Claims the owner's oldest waiting request.
    ///
    /// # Errors
    /// When the claim fails: nothing was taken then.
    pub async fn claim(&self, owner: &Owner) -> store::Result<Option<Claimed>> {
        let now = self.clock.now();
        self.store.claim(owner, now, Leases::end(now)).await
    }

    /// Runs a claimed request as [`Self::run_one`] does. Once it is at its end, `next` is asked whose turn is next, and
    /// one of theirs is claimed in the same commit.
    pub async fn run(
        &self,
        claimed: Claimed,
        stop: impl Future<Output = ()>,
        next: impl FnOnce() -> Option<Owner>,
    ) -> (Run, Option<Claimed>) {
        failpoint::reach(Place::Claimed);
        let begun = Instant::now();
        let claim = claimed.claim;
        let (method, repeatable, has_body) =
            (claimed.call.method.clone(), claimed.call.is_repeatable(), claimed.call.body.is_some());
        let mut lease = self.leases.hold(claim);
        let (progress, listener) = Progress::new(self.clock.clone());
        let outcome = tokio::select! {
            outcome = self.perform(claimed, progress) => outcome,
            never = self.report(claim, &listener) => match never {},
            () = lease.lost() => return (Run::Dropped, None),
            () = stop => {
                if repeatable {
                    self.put_back(claim).await;
                    return (Run::Dropped, None);
                }
                Outcome::Failed(Failure::interrupted(&method))
            }
        };
        while !self.report_once(claim, &listener).await {
            tokio::time::sleep(PAUSE).await;
        }
        let next = self.end(claim, outcome, has_body, begun, next()).await;
        (Run::Ended, next)
    }

    /// Takes the handler's reports to the store, a few times a second at most, for as long as it runs.
    async fn report(&self, claim: store::Claim, listener: &Listener) -> Infallible {
        loop {
            listener.news().await;
            self.report_once(claim, listener).await;
            let _ = tokio::time::timeout(REPORTS, listener.much()).await;
        }
    }

    /// Takes what there is to the store; `false` where that failed, and nothing is lost.
    async fn report_once(&self, claim: store::Claim, listener: &Listener) -> bool {
        let news = listener.take();
        if news.is_empty() {
            return true;
        }
        if let Err(error) = self.store.report(claim, news.progress, news.details.clone()).await {
            log::warn!("{}: its progress could not be stored, trying again: {error}", claim.rid);
            listener.put_back(news);
            return false;
        }
        true
    }

    async fn perform(&self, claimed: Claimed, progress: Progress) -> Outcome {
        let limit = self.timeout;
        match tokio::time::timeout(limit, self.answer(claimed, progress)).await {
            Ok(Ok(answer)) => Outcome::Finished(answer),
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(Failure {
                detail: format!("timed out after {}", humantime::format_duration(limit)),
                kind: FailureKind::TimedOut,
            }),
        }
    }

    async fn answer(&self, claimed: Claimed, progress: Progress) -> Result<Answer, Failure> {
        let rid = claimed.claim.rid;
        let caller = claimed.caller.ok_or_else(|| Failure::no_answer("its user is gone"))?;
        let body = match claimed.call.body {
            Some(_) => {
                let body = self.media.read_body(rid).await.map_err(|error| unreadable(&error))?;
                Some(body.map_err(std::io::Error::other).boxed())
            }
            None => None,
        };
        let replay = Replay { rid, call: claimed.call, caller, progress, in_turn: false, body };
        let response = self.dispatch.dispatch(replay).await.map_err(|error| unanswered(&error))?;
        let (status, headers) = (response.status, response.headers.clone());
        let stored = self.store_result(rid, response).await?;
        failpoint::reach(Place::ResultWithoutRow);
        let (result, copy) = stored.map(|stored| (stored.result, stored.copy)).unzip();
        Ok(Answer { status, headers, result, copy: copy.flatten() })
    }

    /// Streams the answer's body into its file; no bytes, no file.
    async fn store_result(&self, rid: crate::model::Rid, response: Response) -> Result<Option<Stored>, Failure> {
        let mut sink = self.media.write_result();
        let mut body = response.body;
        while let Some(piece) = body.next().await {
            sink.write(piece.map_err(|error| unanswered(&error))?).await.map_err(|error| unstorable(&error))?;
        }
        if sink.written() == 0 {
            return Ok(None);
        }
        let name = result_name(self.keep, rid, response.headers.get("content-type"));
        sink.commit(File::Result(name)).await.map(Some).map_err(|error| unstorable(&error))
    }

    /// Ends the row, for as long as it takes: the disk may be full for both file and row. Then the body is wiped.
    async fn end(
        &self,
        claim: store::Claim,
        outcome: Outcome,
        has_body: bool,
        begun: Instant,
        next: Option<Owner>,
    ) -> Option<Claimed> {
        let at = self.clock.now();
        let ending = Ending { outcome, at, expires: self.keep.expiry(at) };
        let (held, next) = loop {
            match self.finish(claim, ending.clone(), next.as_ref()).await {
                Ok(done) => break done,
                Err(error) => {
                    log::error!("{}: its end could not be stored, trying again: {error}", claim.rid);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        if held && matches!(&ending.outcome, Outcome::Finished(answer) if answer.copy.is_some()) {
            self.settler.wake();
        }
        failpoint::reach(Place::EndedWithBody);
        if has_body {
            self.remove(File::Body(claim.rid)).await;
        }
        if !held {
            if let Outcome::Finished(Answer { result: Some(file), .. }) = ending.outcome {
                self.remove_if_unowned(claim.rid, file.name).await;
            }
            return next;
        }
        self.watchers.ended(claim.rid);
        log_end(claim, &ending.outcome, begun);
        next
    }

    async fn finish(
        &self,
        claim: store::Claim,
        ending: Ending,
        next: Option<&Owner>,
    ) -> store::Result<(bool, Option<Claimed>)> {
        match next {
            Some(owner) => {
                let lease = Leases::end(ending.at);
                self.store.finish_and_claim(claim, ending, owner, lease).await
            }
            None => Ok((self.store.finish(claim, ending).await?, None)),
        }
    }

    /// The result of a hold that was lost is nobody's, unless a later attempt finished under the same name.
    async fn remove_if_unowned(&self, rid: crate::model::Rid, name: String) {
        match self.store.get(rid).await {
            Ok(Some(request)) if request.result.as_ref().is_some_and(|file| file.name == name) => {}
            Ok(_) => self.remove(File::Result(name)).await,
            Err(error) => log::warn!("{rid}: a result may be left over for the sweep: {error}"),
        }
    }

    async fn remove(&self, file: File) {
        if let Err(error) = self.media.remove(file).await {
            log::warn!("a file is left over for the sweep: {error}");
        }
    }

    async fn put_back(&self, claim: store::Claim) {
        let detail = "interrupted by a restart; queued again";
        match self.store.release(claim, self.clock.now(), detail).await {
            Ok(_) => log::info!("{} attempt {}: put back in the queue", claim.rid, claim.attempt),
            Err(error) => log::warn!("{}: not put back now, the next start will: {error}", claim.rid),
        }
    }
}

fn log_end(claim: store::Claim, outcome: &Outcome, begun: Instant) {
    let ms = begun.elapsed().as_millis();
    let (rid, attempt) = (claim.rid, claim.attempt);
    match outcome {
        Outcome::Finished(answer) => log::info!("run rid={rid} attempt={attempt} status={} ms={ms}", answer.status),
        Outcome::Failed(why) => log::warn!("run rid={rid} attempt={attempt} failed={:?} ms={ms}", why.detail),
    }
}

fn unanswered(error: &dispatch::Error) -> Failure {
    Failure::no_answer(error.to_string())
}

fn unreadable(error: &media::Error) -> Failure {
    log::error!("a stored body cannot be read: {error}");
    match error {
        media::Error::Sealed | media::Error::Missing => Failure::no_answer(format!("its stored body: {error}")),
        _ => Failure::no_answer("its stored body cannot be read; the server's log says why"),
    }
}

fn unstorable(error: &media::Error) -> Failure {
    log::error!("a result cannot be stored: {error}");
    if error.is_full() {
        Failure::no_answer("the result could not be stored: no space is left for it")
    } else {
        Failure::no_answer("the result could not be stored; the server's log says why")
    }
}
