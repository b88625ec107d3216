//! What every store must do, as plain functions over the traits; run on SQLite in a folder of its own.

use std::sync::Arc;

use bgrs::model::{Answer, Call, Caller, Failure, Headers, Outcome, Owner, Rid, State, StoredResult, time::Keep};
use bgrs::store::sqlite::{Durability, Sqlite};
use bgrs::store::{
    Change, Claimed, Ending, Error, Fingerprint, Inserted, Key, Known, Lapsed, NewRequest, NewUser, Removal, Rescued,
    Store, Users,
};
use bytes::Bytes;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};

fn now() -> Timestamp {
    "2026-01-31T10:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// Somebody of another source: there is no row of the server's own users to look at.
fn owner(id: i64) -> Owner {
    Owner { source: "elsewhere".to_owned(), id: id.to_string() }
}

fn request(method: &str, of: i64) -> NewRequest {
    let headers: Headers = [("accept", "*/*")].into_iter().collect();
    let repeatable = bgrs::model::is_idempotent(method, &headers);
    let call = Call {
        method: method.to_owned(),
        name: "/a?bgrs=yes".to_owned(),
        headers,
        body: None,
        confidential: false,
        upstream: None,
        secrets: None,
        timeout: None,
        repeatable,
        batch: None,
        callback: None,
    };
    NewRequest { rid: Rid::generate(1).unwrap(), owner: owner(of), vouched: None, call, key: None, created: now() }
}

async fn claimed(store: &dyn Store, method: &str) -> Claimed {
    store.insert(request(method, 1)).await.unwrap();
    store.claim(&owner(1), now(), later(60)).await.unwrap().unwrap()
}

fn ending(outcome: Outcome) -> Ending {
    Ending { outcome, at: now(), expires: Keep::Month.expiry(now()), told: false }
}

fn answer(result: Option<StoredResult>) -> Outcome {
    let headers: Headers = [("content-type", "text/plain")].into_iter().collect();
    Outcome::Finished(Answer { status: 200, headers, result, copy: None })
}

fn file() -> StoredResult {
    StoredResult { name: "a".to_owned(), size: 3, etag: "e".to_owned() }
}

async fn an_owners_requests_are_claimed_oldest_first_and_once(store: &dyn Store) {
    let (first, second) = (request("GET", 1), request("GET", 1));
    let other = request("GET", 2);
    for new in [&first, &other, &second] {
        store.insert(new.clone()).await.unwrap();
    }
    for expected in [&first, &second] {
        let claimed = store.claim(&owner(1), now(), later(60)).await.unwrap().unwrap();
        assert_eq!((claimed.claim.rid, claimed.claim.attempt), (expected.rid, 1));
        assert_eq!(claimed.call, expected.call);
    }
    assert!(store.claim(&owner(1), now(), later(60)).await.unwrap().is_none());
    let unended = store.unended().await.unwrap();
    assert_eq!((unended[&owner(1)].running, unended[&owner(2)].waiting), (2, 1));
}

async fn what_runs_from_the_beginning_is_that_request_and_no_other(store: &dyn Store) {
    for _ in 0..20 {
        let new = |rid: Rid| NewRequest { rid, ..request("GET", 1) };
        let rescued = new(store.new_rid().unwrap());
        let others: Vec<_> = (0..8).map(|_| new(store.new_rid().unwrap())).collect();
        let inserted = others.iter().map(|new| store.insert(new.clone()));
        let (_, claim) =
            tokio::join!(futures_util::future::join_all(inserted), store.adopt(rescued.clone(), later(60), "rescued"));
        assert_eq!(claim.unwrap().map(|claim| (claim.rid, claim.attempt)), Some((rescued.rid, 1)));
        assert_eq!(store.get(rescued.rid).await.unwrap().unwrap().state, State::Running);
        for other in others {
            assert_eq!(store.get(other.rid).await.unwrap().unwrap().state, State::Queued);
        }
    }
}

async fn a_request_that_begins_as_it_is_stored_is_claimed_with_it(store: &dyn Store) {
    let key = Key { text: "key".to_owned(), fingerprint: Fingerprint::default() };
    let new = NewRequest { key: Some(key), ..request("POST", 1) };
    let (begun, begins) = std::sync::mpsc::channel();
    let begin = async |rid: Rid| {
        let begun = begun.clone();
        let new = Arc::new(NewRequest { rid, ..new.clone() });
        store.begin(new, now(), later(60), Box::new(move |claimed| begun.send(claimed).unwrap())).await.unwrap()
    };
    assert_eq!(begin(new.rid).await, Inserted::Stored);
    let claimed = begins.try_recv().unwrap();
    assert_eq!((claimed.claim.rid, claimed.claim.attempt, claimed.tries), (new.rid, 1, 0));
    assert_eq!((&claimed.owner, &claimed.call, &claimed.caller), (&new.owner, &new.call, &None));
    let shown = store.get(new.rid).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.started.is_some()), (State::Running, true));
    assert!(store.claim(&owner(1), now(), later(60)).await.unwrap().is_none(), "it was claimed twice");
    assert_eq!(begin(Rid::generate(2).unwrap()).await, Inserted::Known(new.rid));
    assert!(begins.try_recv().is_err(), "what was there already began");
    assert!(store.finish(claimed.claim, ending(answer(None))).await.unwrap());
}

async fn a_finished_request_shows_its_answer_and_ends_with_done(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    assert!(store.finish(claim, ending(answer(Some(file())))).await.unwrap());
    let request = store.get(claim.rid).await.unwrap().unwrap();
    assert_eq!((request.state, request.status, request.progress), (State::Finished, Some(200), 10_000));
    assert_eq!((request.result, request.content_type.as_deref()), (Some(file()), Some("text/plain")));
    assert_eq!(store.last_detail(claim.rid).await.unwrap().as_deref(), Some("done"));
    assert_eq!(store.bytes().await.unwrap(), 3);
}

async fn a_result_that_is_not_durable_yet_is_kept_until_it_is(store: &dyn Store) {
    let finish = async |copy: Option<&'static [u8]>| {
        let claim = claimed(store, "GET").await.claim;
        let Outcome::Finished(mut answer) = answer(Some(file())) else { unreachable!("it is finished") };
        answer.copy = copy.map(Bytes::from_static);
        assert!(store.finish(claim, ending(Outcome::Finished(answer))).await.unwrap());
        claim
    };
    let (first, durable, second) = (finish(Some(b"one")).await, finish(None).await, finish(Some(b"two")).await);
    let name = file().name;
    assert_eq!(store.unsettled(0, 10).await.unwrap(), [(first.id, name.clone()), (second.id, name.clone())]);
    assert_eq!(store.unsettled(0, 1).await.unwrap(), [(first.id, name.clone())]);
    assert_eq!(store.unsettled(first.id, 10).await.unwrap(), [(second.id, name.clone())]);
    assert_eq!(store.copy(first.id).await.unwrap().as_deref(), Some(&b"one"[..]));
    assert!(store.copy(durable.id).await.unwrap().is_none());
    store.settled(vec![first.id]).await.unwrap();
    assert_eq!(store.unsettled(0, 10).await.unwrap(), [(second.id, name)]);
    store.lose(second.rid, now()).await.unwrap();
    assert!(store.unsettled(0, 10).await.unwrap().is_empty());
}

async fn a_copy_goes_with_its_request(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    let Outcome::Finished(mut answer) = answer(Some(file())) else { unreachable!("it is finished") };
    answer.copy = Some(Bytes::from_static(b"one"));
    store.finish(claim, ending(Outcome::Finished(answer))).await.unwrap();
    assert_eq!(store.expire(later(40 * 24 * 60 * 60), 10).await.unwrap().len(), 1);
    assert!(store.unsettled(0, 10).await.unwrap().is_empty());
}

async fn an_end_and_the_next_claim_are_one_act(store: &dyn Store) {
    let first = claimed(store, "GET").await.claim;
    let other = request("GET", 2);
    store.insert(other.clone()).await.unwrap();
    let one = async |claim, of: i64| {
        store.finish_and_claim(claim, ending(answer(None)), &owner(of), later(60)).await.unwrap()
    };
    let (held, next) = one(first, 2).await;
    let next = next.unwrap();
    assert_eq!((held, next.claim.rid, next.claim.attempt), (true, other.rid, 1));
    assert_eq!(store.get(first.rid).await.unwrap().unwrap().state, State::Finished);
    let (held, none) = one(first, 1).await;
    assert!(!held && none.is_none());
}

async fn acts_that_fail_leave_those_beside_them_whole(store: &dyn Store) {
    let same = request("GET", 1);
    let mut inserts: Vec<_> = (0..20).map(|_| store.insert(request("GET", 1))).collect();
    inserts.extend([store.insert(same.clone()), store.insert(same.clone())]);
    let outcomes = futures_util::future::join_all(inserts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 21);
    assert!(outcomes[21].is_err(), "a rid is there once");
    assert_eq!(store.unended().await.unwrap()[&owner(1)].waiting, 21);
}

async fn progress_never_falls_and_details_stay_in_order(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    let details =
        |texts: &[&str]| texts.iter().map(|text| (String::from("2026-01-31 10:00:00"), (*text).to_owned())).collect();
    assert!(store.report(claim, Some(5000), details(&["a", "b"])).await.unwrap());
    assert!(store.report(claim, Some(2000), details(&["c"])).await.unwrap());
    assert!(store.report(claim, None, details(&["d"])).await.unwrap());
    assert_eq!(store.get(claim.rid).await.unwrap().unwrap().progress, 5000);
    let texts = store.details(claim.rid, 0, 10).await.unwrap().unwrap();
    assert_eq!(texts.iter().map(|detail| detail.text.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    store.finish(claim, ending(answer(None))).await.unwrap();
    assert!(!store.report(claim, Some(9000), details(&["late"])).await.unwrap());
    assert_eq!(store.last_detail(claim.rid).await.unwrap().as_deref(), Some("done"));
}

async fn a_lost_hold_changes_nothing(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    let rescued = store.rescue(Lapsed::All, 3, now(), later(1), 10).await.unwrap();
    assert_eq!(rescued, [Rescued::Requeued(claim.rid, owner(1))]);
    let again = store.claim(&owner(1), now(), later(60)).await.unwrap().unwrap().claim;
    assert_eq!((again.rid, again.attempt), (claim.rid, 2));
    assert!(!store.finish(claim, ending(answer(None))).await.unwrap());
    assert!(!store.release(claim, now(), "x").await.unwrap());
    assert_eq!(store.heartbeat(vec![claim, again], later(60)).await.unwrap(), [claim]);
    assert_eq!(store.get(claim.rid).await.unwrap().unwrap().state, State::Running);
    assert!(store.finish(again, ending(answer(None))).await.unwrap());
    assert!(!store.finish(again, ending(Outcome::Failed(Failure::no_answer("late")))).await.unwrap());
}

async fn only_lapsed_leases_are_rescued_and_not_for_ever(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    assert!(store.rescue(Lapsed::Before(later(59)), 3, now(), later(1), 10).await.unwrap().is_empty());
    for attempt in 2..=3 {
        store.rescue(Lapsed::Before(later(61)), 3, now(), later(1), 10).await.unwrap();
        let again = store.claim(&owner(1), now(), later(60)).await.unwrap().unwrap().claim;
        assert_eq!(again.attempt, attempt);
    }
    let rescued = store.rescue(Lapsed::All, 3, now(), later(1), 10).await.unwrap();
    assert_eq!(rescued, [Rescued::Failed(claim.rid)]);
}

async fn what_is_not_safe_to_repeat_fails(store: &dyn Store) {
    for method in ["POST", "PATCH"] {
        let claim = claimed(store, method).await.claim;
        let rescued = store.rescue(Lapsed::All, 3, now(), later(1), 10).await.unwrap();
        assert_eq!(rescued, [Rescued::Failed(claim.rid)]);
        let expected = format!("interrupted by a restart; {method} is not repeated");
        assert_eq!(store.last_detail(claim.rid).await.unwrap(), Some(expected));
    }
}

async fn a_released_request_waits_again(store: &dyn Store) {
    let claim = claimed(store, "POST").await.claim;
    assert!(store.release(claim, now(), "put back").await.unwrap());
    assert_eq!(store.get(claim.rid).await.unwrap().unwrap().state, State::Queued);
    assert_eq!(store.last_detail(claim.rid).await.unwrap().as_deref(), Some("put back"));
}

async fn expired_requests_go_in_steps_with_their_details(store: &dyn Store) {
    for _ in 0..3 {
        let claim = claimed(store, "GET").await.claim;
        store.finish(claim, ending(answer(Some(file())))).await.unwrap();
    }
    let waiting = request("GET", 1);
    store.insert(waiting.clone()).await.unwrap();
    assert!(store.expire(later(60), 2).await.unwrap().is_empty());
    let after = later(40 * 24 * 3600);
    assert_eq!(store.expire(after, 2).await.unwrap().len(), 2);
    let last = store.expire(after, 2).await.unwrap();
    assert_eq!((last.len(), last[0].result.as_deref(), last[0].body), (1, Some("a"), false));
    assert!(store.details(last[0].rid, 0, 10).await.unwrap().is_none());
    assert!(store.get(waiting.rid).await.unwrap().is_some());
}

async fn details_come_in_pages(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    store.release(claim, now(), "one").await.unwrap();
    let claim = store.claim(&owner(1), now(), later(60)).await.unwrap().unwrap().claim;
    store.release(claim, now(), "two").await.unwrap();
    let first = store.details(claim.rid, 0, 1).await.unwrap().unwrap();
    assert_eq!((first.len(), first[0].text.as_str()), (1, "one"));
    let rest = store.details(claim.rid, first[0].id, 10).await.unwrap().unwrap();
    assert_eq!((rest.len(), rest[0].text.as_str()), (1, "two"));
}

async fn a_lost_result_makes_its_request_a_failed_one(store: &dyn Store) {
    let claim = claimed(store, "GET").await.claim;
    store.finish(claim, ending(answer(Some(file())))).await.unwrap();
    let results = store.results(0, 10).await.unwrap();
    assert_eq!((results.found.len(), results.last), (1, None));
    // One without a result counts among those that are looked at.
    let one = store.results(0, 1).await.unwrap();
    assert!(one.last.is_some());
    store.lose(claim.rid, now()).await.unwrap();
    let request = store.get(claim.rid).await.unwrap().unwrap();
    assert_eq!((request.state, request.failure, request.result), (State::Failed, Some(502), None));
    assert!(store.results(0, 10).await.unwrap().found.is_empty());
}

fn user(login: &str, is_admin: bool) -> NewUser {
    let change = Change { is_admin: Some(is_admin), ..Change::default() };
    NewUser { login: login.to_owned(), password: "hash".to_owned(), change, created: now() }
}

async fn logins_are_unique_and_ids_never_used_again(users: &dyn Users) {
    let admin = users.add_first_administrator(user("admin", true)).await.unwrap().unwrap();
    assert!(users.add_first_administrator(user("other", true)).await.unwrap().is_none());
    assert!(matches!(users.add(user("admin", false)).await, Err(Error::Taken("login"))));
    let kim = users.add(user("kim", false)).await.unwrap();
    assert_eq!((admin.id, kim.id), (1, 2));
    assert_eq!(users.remove(kim.id, 10).await.unwrap(), Removal::Done(Vec::new()));
    assert_eq!(users.add(user("kim", false)).await.unwrap().id, 3);
    let taken = Change { login: Some("admin".to_owned()), ..Change::default() };
    assert!(matches!(users.change(3, taken).await, Err(Error::Taken("login"))));
}

async fn the_last_administrator_stays_one(users: &dyn Users) {
    users.add(user("admin", true)).await.unwrap();
    let demote = || Change { is_admin: Some(false), ..Change::default() };
    assert!(matches!(users.change(1, demote()).await, Ok(Some(None))));
    assert_eq!(users.remove(1, 10).await.unwrap(), Removal::LastAdministrator);
    users.add(user("root", true)).await.unwrap();
    assert!(matches!(users.change(1, demote()).await, Ok(Some(Some(_)))));
    assert!(matches!(users.change(9, demote()).await, Ok(None)));
}

async fn who_is_no_longer_as_remembered_sees_nothing(store: &(impl Store + Users)) {
    let user = store.add(user("kim", false)).await.unwrap();
    let request = request("GET", 1);
    store.insert(request.clone()).await.unwrap();
    let known = Arc::new(Known::from(&user));
    let found = store.get_for(request.rid, known.clone()).await.unwrap();
    assert_eq!(found.map(|found| found.rid), Some(request.rid));
    store.change(user.id, Change { password: Some("other".into()), ..Change::default() }).await.unwrap();
    assert_eq!(store.get_for(request.rid, known).await.unwrap(), None);
}

async fn who_is_no_longer_as_remembered_stores_nothing(store: &(impl Store + Users)) {
    let kim = store.add(user("kim", false)).await.unwrap();
    let vouched = || NewRequest {
        vouched: Some(Arc::new(Known::from(&kim))),
        owner: Owner::local(kim.id),
        ..request("GET", kim.id)
    };
    assert_eq!(store.insert(vouched()).await.unwrap(), Inserted::Stored);
    let claimed = store.claim(&Owner::local(kim.id), now(), later(60)).await.unwrap().unwrap();
    assert_eq!(claimed.caller, Some(Caller { user_id: kim.id, is_admin: false, read_only: false }));

    let password = Change { password: Some("another".to_owned()), ..Change::default() };
    store.change(kim.id, password).await.unwrap();
    let refused = vouched();
    assert_eq!(store.insert(refused.clone()).await.unwrap(), Inserted::Stranger);
    assert_eq!(store.get(refused.rid).await.unwrap(), None);

    let unvouched = || NewRequest { vouched: None, ..vouched() };
    assert_eq!(store.insert(unvouched()).await.unwrap(), Inserted::Stored);
    store.remove(kim.id, 10).await.unwrap();
    for gone in [vouched(), unvouched()] {
        assert_eq!(store.insert(gone).await.unwrap(), Inserted::Stranger);
    }
    assert!(store.unended().await.unwrap().is_empty());
}

/// The same object vouches for each: what it has learnt about the row must not outlive a change.
async fn whoever_changes_between_two_submissions_is_noticed_by_the_second(store: &(impl Store + Users)) {
    let kim = store.add(user("kim", false)).await.unwrap();
    let known = Arc::new(Known::from(&kim));
    let vouched = || NewRequest { vouched: Some(known.clone()), owner: Owner::local(kim.id), ..request("GET", kim.id) };
    for _ in 0..3 {
        assert_eq!(store.insert(vouched()).await.unwrap(), Inserted::Stored);
    }
    let change = Change { read_only: Some(true), ..Change::default() };
    // In one transaction, perhaps: the change is asked for first.
    let (changed, inserted) = tokio::join!(store.change(kim.id, change), store.insert(vouched()));
    changed.unwrap();
    assert_eq!(inserted.unwrap(), Inserted::Stranger);
    assert_eq!(store.insert(vouched()).await.unwrap(), Inserted::Stranger);
}

async fn what_follows_upon_an_insertion_is_done_where_it_was_stored_also_if_nobody_waits(store: &dyn Store) {
    let (done, stored) = tokio::sync::oneshot::channel();
    let unheard = store.insert_then(Arc::new(request("GET", 1)), Box::new(move || done.send(()).unwrap()));
    // Begun, and given up at once.
    assert!(unheard.now_or_never().is_none());
    stored.await.unwrap();

    let gone = NewRequest { owner: Owner::local(99), ..request("GET", 1) };
    let (done, stored) = tokio::sync::oneshot::channel();
    let outcome = store.insert_then(Arc::new(gone), Box::new(move || done.send(()).unwrap())).await.unwrap();
    assert_eq!(outcome, Inserted::Stranger);
    assert!(stored.await.is_err(), "nothing was stored");
}

async fn a_rid_leads_to_its_row_whatever_number_that_has(store: &dyn Store) {
    let (first, second) = (store.new_rid().unwrap(), store.new_rid().unwrap());
    // The second comes first, a third's number is taken, a fourth was not made here.
    let taken = Rid::generate(second.number()).unwrap();
    let strange = Rid::generate(1 << 40).unwrap();
    for rid in [second, first, taken, strange, store.new_rid().unwrap()] {
        store.insert(NewRequest { rid, ..request("GET", 1) }).await.unwrap();
        let found = store.get(rid).await.unwrap().unwrap();
        assert_eq!(found.rid, rid);
        assert_eq!(store.details(rid, 0, 1).await.unwrap(), Some(Vec::new()));
        if [first, second].contains(&rid) {
            assert_eq!(found.id, rid.number());
        }
    }
    let next = store.new_rid().unwrap();
    store.insert(NewRequest { rid: next, ..request("GET", 1) }).await.unwrap();
    assert_eq!(store.get(next).await.unwrap().unwrap().id, next.number(), "numbers go on behind those that are taken");
    assert_eq!(store.get(Rid::generate(next.number()).unwrap()).await.unwrap(), None, "the number alone opens nothing");
}

async fn of_many_at_once_each_is_stored_as_it_is_and_a_key_once(store: &dyn Store) {
    let mut many: Vec<_> = (0..200).map(|_| request("GET", 1)).collect();
    for (at, new) in many.iter_mut().enumerate() {
        new.rid = store.new_rid().unwrap();
        new.call.name = format!("/{at}");
        let text = if at % 10 == 0 { "one for all".to_owned() } else { format!("of {at}") };
        new.key = (at % 2 == 0).then(|| Key { text, fingerprint: Fingerprint::default() });
    }
    // A number that is taken, and one that was not given out here.
    many[33].rid = Rid::generate(many[7].rid.number()).unwrap();
    many[99].rid = Rid::generate(1 << 40).unwrap();
    let inserts = many.iter().map(|new| store.insert(new.clone()));
    let outcomes = futures_util::future::join_all(inserts).await;
    let of_key = store.keyed(&owner(1), "one for all").await.unwrap().unwrap().0;
    for (at, (new, outcome)) in many.iter().zip(outcomes).enumerate() {
        let found = store.get(new.rid).await.unwrap();
        if at % 10 == 0 && new.rid != of_key {
            assert_eq!((outcome.unwrap(), found), (Inserted::Known(of_key), None));
            continue;
        }
        assert_eq!(outcome.unwrap(), Inserted::Stored);
        let found = found.unwrap();
        assert_eq!((found.name, found.rid), (new.call.name.clone(), new.rid));
        if let Some(key) = &new.key {
            assert_eq!(store.keyed(&owner(1), &key.text).await.unwrap(), Some((new.rid, key.fingerprint)));
        }
    }
    assert_eq!(store.unended().await.unwrap()[&owner(1)].waiting, 181);
}

/// Runs each of these on a store of its own.
macro_rules! on_sqlite {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(
                #[actix_web::test]
                async fn $behaviour() {
                    let dir = tempfile::tempdir().unwrap();
                    let store = Sqlite::open(&dir.path().join("bgrs.sqlite3"), Durability::Normal).unwrap();
                    super::$behaviour(&store).await;
                }
            )*
        }
    };
}

on_sqlite!(
    a_request_that_begins_as_it_is_stored_is_claimed_with_it,
    what_runs_from_the_beginning_is_that_request_and_no_other,
    an_owners_requests_are_claimed_oldest_first_and_once,
    a_finished_request_shows_its_answer_and_ends_with_done,
    a_result_that_is_not_durable_yet_is_kept_until_it_is,
    a_copy_goes_with_its_request,
    an_end_and_the_next_claim_are_one_act,
    acts_that_fail_leave_those_beside_them_whole,
    progress_never_falls_and_details_stay_in_order,
    a_lost_hold_changes_nothing,
    only_lapsed_leases_are_rescued_and_not_for_ever,
    what_is_not_safe_to_repeat_fails,
    a_released_request_waits_again,
    expired_requests_go_in_steps_with_their_details,
    details_come_in_pages,
    a_lost_result_makes_its_request_a_failed_one,
    logins_are_unique_and_ids_never_used_again,
    the_last_administrator_stays_one,
    who_is_no_longer_as_remembered_stores_nothing,
    who_is_no_longer_as_remembered_sees_nothing,
    whoever_changes_between_two_submissions_is_noticed_by_the_second,
    what_follows_upon_an_insertion_is_done_where_it_was_stored_also_if_nobody_waits,
    a_rid_leads_to_its_row_whatever_number_that_has,
    of_many_at_once_each_is_stored_as_it_is_and_a_key_once,
);
