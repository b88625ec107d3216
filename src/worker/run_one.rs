//! One attempt at one request: claim it, perform the call, make the answer durable, end the row.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::callbacks::Deliverer;
use super::come_back::{asks_to_come_back, retry_after};
use super::lease::Leases;
use super::settle::Settler;
use crate::clock::Clock;
use crate::dispatch::{self, Dispatch, Replay, Report, Response, UnderWay};
use crate::failpoint::{self, Place};
use crate::media::{self, File, Media, Sink, result_name};
use crate::model::time::Keep;
use crate::model::{Answer, Call, Failure, FailureKind, Headers, Outcome, Owner, Rid, is_idempotent};
use crate::progress::{Listener, Progress};
use crate::routing::{Policies, Policy, Retry};
use crate::stats::Stats;
use crate::store::{self, Claimed, Ending, Store};
use crate::vault::Key;
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
    /// A request is put aside until then: there was no answer, but there may be one.
    Again(Timestamp),
    /// A request was taken away in the middle: its hold is lost, or the server is shutting down and it waits again.
    Dropped,
}

/// The end of an attempt.
enum End {
    /// The API has answered.
    Answered(Answered),
    /// There is no answer.
    Failed(Failure),
    /// There was no answer, but there may be one after a rest.
    Again { rest: Duration, detail: String },
}

/// An answer that has come whole, and is not durable yet.
struct Answered {
    status: u16,
    headers: Headers,
    /// Its body, with the name of the file; `None` where there is none.
    body: Option<(Box<dyn Sink>, String)>,
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
    /// What is counted.
    pub stats: Stats,
    /// Who makes small results durable.
    pub settler: Settler,
    /// Who tells receivers of callbacks.
    pub deliverer: Deliverer,
    /// The holds.
    pub leases: Leases,
    /// What holds for which calls.
    pub policies: Policies,
    /// What opens the calls' secrets.
    pub key: Key,
    /// Where upstreams report to, less `/{rid}/report`; `None`: nowhere.
    pub reports: Option<String>,
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
        let perform = |progress| self.perform(claimed.clone(), progress);
        self.run_with(&claimed, perform, stop, next).await
    }

    /// Goes on with a call that began in the foreground and has become this request.
    pub async fn adopt(&self, claimed: Claimed, under_way: UnderWay, stop: impl Future<Output = ()>) -> Run {
        let perform = |progress| self.perform_adopted(&claimed, under_way, progress);
        self.run_with(&claimed, perform, stop, || None).await.0
    }

    async fn run_with<F: Future<Output = End>>(
        &self,
        claimed: &Claimed,
        perform: impl FnOnce(Progress) -> F,
        stop: impl Future<Output = ()>,
        next: impl FnOnce() -> Option<Owner>,
    ) -> (Run, Option<Claimed>) {
        let begun = Instant::now();
        let claim = claimed.claim;
        let (method, repeatable) = (claimed.call.method.clone(), claimed.call.repeatable);
        self.watchers.changed(claim.rid);
        let mut lease = self.leases.hold(claim);
        let (progress, listener) = Progress::new(self.clock.clone());
        let end = tokio::select! {
            end = perform(progress) => end,
            never = self.report(claim, &listener) => match never {},
            () = lease.lost() => return (Run::Dropped, None),
            () = stop => {
                if repeatable {
                    self.put_back(claim).await;
                    return (Run::Dropped, None);
                }
                End::Failed(Failure::interrupted(&method))
            }
        };
        while !self.report_once(claim, &listener).await {
            tokio::time::sleep(PAUSE).await;
        }
        let outcome = match end {
            // From here on nothing is dropped half-way: a file whose hold is lost is removed again.
            End::Answered(answered) => self.make_durable(answered).await,
            End::Failed(failure) => Outcome::Failed(failure),
            End::Again { rest, detail } => return (self.put_aside(claim, rest, &detail).await, None),
        };
        let next = self.end(&claimed.call, claim, outcome, begun, next()).await;
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
        self.watchers.changed(claim.rid);
        true
    }

    async fn perform_adopted(&self, claimed: &Claimed, under_way: UnderWay, progress: Progress) -> End {
        let UnderWay { answer, begun, has_body } = under_way;
        let policy = self.policy(&claimed.call);
        let limit = claimed.call.timeout.unwrap_or(policy.timeout).min(policy.timeout);
        let may = policy.retry.attempts > 1 && !has_body && is_idempotent(&claimed.call.method, &claimed.call.headers);
        let again = may.then(|| policy.retry.rest_after(1));
        let tries = Tries { done: 1, again, retry: &policy.retry };
        let attempt = async { self.take(claimed.claim.rid, answer.await, progress, tries).await };
        limited(limit, begun, attempt).await
    }

    fn policy(&self, call: &Call) -> &Policy {
        self.policies.of(&call.method, &call.name, call.upstream.is_none())
    }

    async fn perform(&self, claimed: Claimed, progress: Progress) -> End {
        let policy = self.policy(&claimed.call).clone();
        let limit = claimed.call.timeout.unwrap_or(policy.timeout).min(policy.timeout);
        limited(limit, Instant::now(), self.attempt(claimed, progress, &policy.retry)).await
    }

    async fn attempt(&self, claimed: Claimed, progress: Progress, retry: &Retry) -> Result<End, Failure> {
        let Claimed { claim, owner, caller, tries, call } = claimed;
        let rid = claim.rid;
        if owner.local_id().is_some() && caller.is_none() {
            return Err(Failure::no_answer("its user is gone"));
        }
        let body = match call.body {
            Some(_) => {
                let mut body = self.media.read_body(rid).await.map_err(|error| unreadable(&error))?;
                // Before the call: one that cannot be decrypted is not the API's failure.
                let first = body.next().await.transpose().map_err(|error| unreadable(&error))?;
                let pieces = futures_util::stream::iter(first.map(Ok)).chain(body);
                Some(pieces.map_err(std::io::Error::other).boxed())
            }
            None => None,
        };
        let call = self.with_secrets(rid, call)?;
        let tries = u32::try_from(tries).unwrap_or(u32::MAX).saturating_add(1);
        let again = call.upstream.is_some() && tries < retry.attempts && is_idempotent(&call.method, &call.headers);
        let again = again.then(|| retry.rest_after(tries));
        let url = self.reports.as_ref().map(|base| format!("{base}/{rid}/report"));
        let report = url.map(|url| Report { url, token: self.key.token(rid) });
        let progress_too = progress.clone();
        let replay =
            Replay { rid, is_stored: true, call, caller, progress: progress_too, in_turn: false, report, body };
        let answer = self.dispatch.dispatch(replay).await;
        self.take(rid, answer, progress, Tries { done: tries, again, retry }).await
    }

    /// Takes an answer, or none, for the end of the attempt or of the request.
    async fn take(
        &self,
        rid: Rid,
        answer: Result<Response, dispatch::Error>,
        progress: Progress,
        tries: Tries<'_>,
    ) -> Result<End, Failure> {
        let Tries { done: tries, again, retry } = tries;
        let (rest, why) = match (answer, again) {
            (Ok(response), Some(rest)) if asks_to_come_back(&response, retry) => {
                let said = retry_after(&response.headers, self.clock.now());
                (said.unwrap_or(rest), format!("the upstream answered {}", response.status))
            }
            (Ok(response), _) => return self.receive(rid, response, &progress).await.map(End::Answered),
            (Err(error), Some(rest)) if error.is_passing() => (rest, error.to_string()),
            (Err(error), None) if error.is_passing() && tries > 1 => {
                return Err(Failure::no_answer(format!("{error}; given up after {tries} attempts")));
            }
            (Err(error), _) => return Err(unanswered(&error)),
        };
        let wait = humantime::format_duration(Duration::from_millis(rest.as_millis() as u64));
        let detail = format!("{why}; attempt {tries} of {}, the next in {wait}", retry.attempts);
        Ok(End::Again { rest, detail })
    }

    /// The call with its secrets opened.
    fn with_secrets(&self, rid: Rid, mut call: Call) -> Result<Call, Failure> {
        let Some(sealed) = call.secrets.take() else { return Ok(call) };
        let lost = || Failure::no_answer("its stored credentials cannot be read: the key file is another one");
        let clear = self.key.open(rid, &sealed).map_err(|_| lost())?;
        let secrets = std::str::from_utf8(&clear).ok().and_then(|text| Headers::from_json(text).ok());
        for (name, value) in secrets.ok_or_else(lost)?.iter() {
            call.headers.append(name, value);
        }
        Ok(call)
    }

    /// Streams the answer's body into a file that has no name yet; no bytes, no file.
    async fn receive(&self, rid: Rid, response: Response, progress: &Progress) -> Result<Answered, Failure> {
        let Response { status, headers, length, mut body } = response;
        let mut sink = self.media.write_result();
        let mut said = 0;
        while let Some(piece) = body.next().await {
            sink.write(piece.map_err(|error| unanswered(&error))?).await.map_err(|error| unstorable(&error))?;
            if let Some(hundredths) = length.and_then(|total| part(sink.written(), total))
                && hundredths > said
            {
                said = hundredths;
                progress.set(f64::from(hundredths) / 100.0);
            }
        }
        let name = result_name(self.keep, rid, headers.get("content-type"));
        let body = (sink.written() > 0).then_some((sink, name));
        Ok(Answered { status, headers, body })
    }

    /// Makes an answer durable.
    async fn make_durable(&self, answered: Answered) -> Outcome {
        let Answered { status, headers, body } = answered;
        let stored = match body {
            Some((sink, name)) => match sink.commit(File::Result(name)).await {
                Ok(stored) => Some(stored),
                Err(error) => return Outcome::Failed(unstorable(&error)),
            },
            None => None,
        };
        failpoint::reach(Place::ResultWithoutRow);
        let (result, copy) = stored.map(|stored| (stored.result, stored.copy)).unzip();
        Outcome::Finished(Answer { status, headers, result, copy: copy.flatten() })
    }

    /// Puts a request aside until its next attempt, for as long as it takes.
    async fn put_aside(&self, claim: store::Claim, rest: Duration, detail: &str) -> Run {
        loop {
            let now = self.clock.now();
            let due = now.saturating_add(jiff::SignedDuration::try_from(rest).unwrap_or_default()).unwrap_or(now);
            match self.store.retry(claim, now, due, detail).await {
                Ok(true) => {
                    log::info!("{} attempt {}: {detail}", claim.rid, claim.attempt);
                    self.watchers.changed(claim.rid);
                    return Run::Again(due);
                }
                Ok(false) => return Run::Dropped,
                Err(error) => {
                    log::error!("{}: it could not be put aside, trying again: {error}", claim.rid);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Ends the row, for as long as it takes: the disk may be full for both file and row. Then a confidential body is wiped.
    async fn end(
        &self,
        call: &Call,
        claim: store::Claim,
        outcome: Outcome,
        begun: Instant,
        next: Option<Owner>,
    ) -> Option<Claimed> {
        let at = self.clock.now();
        let ending = Ending { outcome, at, expires: self.keep.expiry(at), told: call.callback.is_some() };
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
        if call.confidential && held {
            self.remove(File::Body(claim.rid)).await;
        }
        if !held {
            if let Outcome::Finished(Answer { result: Some(file), .. }) = ending.outcome {
                self.remove_if_unowned(claim.rid, file.name).await;
            }
            return next;
        }
        if ending.told {
            self.deliverer.wake();
        }
        self.stats.ended(&call.name, &ending.outcome, begun.elapsed());
        self.tell(claim.rid).await;
        log_end(claim, &ending.outcome, begun);
        next
    }

    /// Tells those who watch of the end; the row is looked at once for all of them.
    async fn tell(&self, rid: Rid) {
        if self.watchers.is_watched(rid) {
            let request = self.store.get(rid).await.unwrap_or_else(|error| {
                log::warn!("{rid}: those who watch it have to look themselves: {error}");
                None
            });
            self.watchers.ended(rid, request);
        } else {
            self.watchers.changed(rid);
        }
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
    async fn remove_if_unowned(&self, rid: Rid, name: String) {
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
            Ok(_) => {
                self.watchers.changed(claim.rid);
                log::info!("{} attempt {}: put back in the queue", claim.rid, claim.attempt);
            }
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

/// Where a request stands with its attempts.
struct Tries<'a> {
    /// This attempt's number.
    done: u32,
    /// The rest before the next, if there may be one.
    again: Option<Duration>,
    /// What the policy says.
    retry: &'a Retry,
}

/// Gives an attempt so much time since it began.
async fn limited(limit: Duration, begun: Instant, attempt: impl Future<Output = Result<End, Failure>>) -> End {
    let failure = match tokio::time::timeout(limit.saturating_sub(begun.elapsed()), attempt).await {
        Ok(Ok(end)) => return end,
        Ok(Err(failure)) => failure,
        Err(_) => Failure {
            detail: format!("timed out after {}", humantime::format_duration(limit)),
            kind: FailureKind::TimedOut,
        },
    };
    End::Failed(failure)
}

/// Hundredths of a percent that `received` bytes are of `total`; `None` where there is no part of nothing.
fn part(received: u64, total: u64) -> Option<u32> {
    u32::try_from(u128::from(received) * 10_000 / u128::from(total).max(1)).ok().filter(|_| total > 0)
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
