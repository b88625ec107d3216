//! What every backend of `Media` must do: plain functions over `&dyn Media`, run on the folder.

use std::ops::Range;
use std::path::Path;

use bgrs::media::fs::FsMedia;
use bgrs::media::{ByteStream, Error, File, Media, result_name};
use bgrs::model::time::Keep;
use bgrs::model::{Rid, StoredResult};
use bgrs::vault::Key;
use bytes::Bytes;
use futures_util::TryStreamExt;

/// More than the pieces in which files are written and read, and no multiple of them.
const LARGE: usize = 200_001;

fn rid(digit: char) -> Rid {
    digit.to_string().repeat(32).parse().unwrap()
}

fn result(digit: char) -> File {
    File::Result(result_name(Keep::Month, rid(digit), Some(b"application/json")))
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

async fn store(media: &dyn Media, file: File, bytes: &[u8]) -> Result<StoredResult, Error> {
    let mut sink = match &file {
        File::Result(_) => media.write_result(),
        File::Body(rid) => media.write_body(*rid),
    };
    for piece in bytes.chunks(10_007) {
        sink.write(Bytes::copy_from_slice(piece)).await?;
    }
    assert_eq!(sink.written(), bytes.len() as u64);
    sink.commit(file).await.map(|stored| stored.result)
}

async fn all(stream: Result<ByteStream, Error>) -> Result<Vec<u8>, Error> {
    stream?
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

async fn read(media: &dyn Media, file: &File, range: Range<u64>) -> Result<Vec<u8>, Error> {
    all(media.read_result(&file.file_name(), range).await).await
}

async fn walked(media: &dyn Media) -> Vec<String> {
    let mut walk = media.walk().await.unwrap();
    let mut names = Vec::new();
    loop {
        let step = walk.step(2).await.unwrap();
        assert!(step.files.len() <= 2);
        names.extend(step.files.iter().map(File::file_name));
        if step.done {
            names.sort();
            return names;
        }
    }
}

async fn what_is_committed_reads_back(media: &dyn Media) {
    for length in [0, 1, 65_535, 65_536, 65_537, LARGE] {
        let bytes = sample(length);
        let stored = store(media, result('a'), &bytes).await.unwrap();
        assert_eq!((stored.name, stored.size), (result('a').file_name(), length as u64));
        assert_eq!(stored.etag, blake3::hash(&bytes).to_hex()[..32]);
        assert_eq!(read(media, &result('a'), 0..length as u64).await.unwrap(), bytes);
        store(media, File::Body(rid('a')), &bytes).await.unwrap();
        assert_eq!(all(media.read_body(rid('a')).await).await.unwrap(), bytes);
    }
}

async fn what_is_not_durable_comes_with_its_bytes(media: &dyn Media) {
    for (length, file) in [(10, result('a')), (LARGE, result('b')), (10, File::Body(rid('c')))] {
        let bytes = sample(length);
        let mut sink = match &file {
            File::Result(_) => media.write_result(),
            File::Body(rid) => media.write_body(*rid),
        };
        sink.write(bytes.clone().into()).await.unwrap();
        let stored = sink.commit(file).await.unwrap();
        assert!(stored.copy.is_none_or(|copy| copy == bytes && stored.result.size == length as u64));
    }
}

async fn a_result_that_a_power_cut_took_is_written_again(media: &dyn Media) {
    let (file, bytes) = (result('a'), sample(10));
    for torn in [None, Some(sample(5)), Some(sample(11)), Some(bytes.clone())] {
        match torn {
            Some(torn) => drop(store(media, file.clone(), &torn).await.unwrap()),
            None => media.remove(file.clone()).await.unwrap(),
        }
        media.restore(&file.file_name(), bytes.clone().into()).await.unwrap();
        assert_eq!(read(media, &file, 0..10).await.unwrap(), bytes);
    }
    assert_eq!(walked(media).await, [file.file_name()]);
}

async fn settling_passes_over_what_is_gone(media: &dyn Media) {
    let files: Vec<_> = "abcdef0123456789abcdef".chars().map(result).collect();
    for few in [1, files.len()] {
        for file in &files[..few] {
            store(media, file.clone(), b"{}").await.unwrap();
        }
        media.remove(result('a')).await.unwrap();
        media.settle(files[..few].iter().map(File::file_name).collect()).await.unwrap();
    }
    assert!(matches!(media.settle(vec!["../x".to_owned()]).await, Err(Error::Missing)));
    assert_eq!(read(media, &result('b'), 0..2).await.unwrap(), b"{}");
}

async fn nothing_is_there_before_the_commit(media: &dyn Media) {
    for length in [10, LARGE] {
        let mut sink = media.write_result();
        sink.write(sample(length).into()).await.unwrap();
        assert!(!media.has_result(&result('a').file_name(), 3).await.unwrap());
        drop(sink);
        let mut sink = media.write_body(rid('a'));
        sink.write(sample(length).into()).await.unwrap();
        drop(sink);
        assert!(matches!(media.read_body(rid('a')).await.err(), Some(Error::Missing)));
        assert!(walked(media).await.is_empty());
    }
}

async fn a_range_is_exact_and_never_short(media: &dyn Media) {
    let bytes = sample(LARGE);
    store(media, result('a'), &bytes).await.unwrap();
    for range in [0..1, 5..5, 65_535..65_537, 100..150_000, 200_000..200_001] {
        let expected = &bytes[range.start as usize..range.end as usize];
        assert_eq!(read(media, &result('a'), range).await.unwrap(), expected);
    }
    assert!(read(media, &result('a'), 0..LARGE as u64 + 1).await.is_err());
}

async fn a_removal_may_be_repeated(media: &dyn Media) {
    for file in [result('a'), File::Body(rid('a'))] {
        store(media, file.clone(), b"{}").await.unwrap();
        media.remove(file.clone()).await.unwrap();
        media.remove(file).await.unwrap();
    }
    assert!(!media.has_result(&result('a').file_name(), 3).await.unwrap());
    assert!(matches!(read(media, &result('a'), 0..1).await, Err(Error::Missing)));
}

async fn a_walk_lists_each_file_once(media: &dyn Media) {
    let files = [result('a'), result('b'), result('c'), File::Body(rid('a')), File::Body(rid('d'))];
    for file in &files {
        store(media, file.clone(), b"{}").await.unwrap();
    }
    let mut names: Vec<_> = files.iter().map(File::file_name).collect();
    names.sort();
    assert_eq!(walked(media).await, names);
}

async fn a_name_that_is_not_our_own_is_missing(media: &dyn Media) {
    let body = File::Body(rid('a'));
    store(media, body.clone(), b"secret").await.unwrap();
    for name in ["../x", "..", "", "/etc/passwd", "x", &format!("./{}", result('a').file_name()), &body.file_name()] {
        let foreign = File::Result(name.to_owned());
        assert!(matches!(media.read_result(name, 0..1).await.err(), Some(Error::Missing)), "{name}");
        assert!(matches!(media.has_result(name, 3).await, Err(Error::Missing)), "{name}");
        assert!(matches!(media.remove(foreign.clone()).await, Err(Error::Missing)), "{name}");
        assert!(matches!(store(media, foreign, b"{}").await, Err(Error::Missing)), "{name}");
    }
    assert_eq!(walked(media).await, [body.file_name()]);
}

/// `media` may take 1000 bytes.
async fn results_stay_below_their_limit(media: &dyn Media) {
    store(media, result('a'), &sample(600)).await.unwrap();
    let mut sink = media.write_result();
    sink.write(sample(400).into()).await.unwrap();
    assert!(media.is_full());
    assert!(sink.write(sample(1).into()).await.unwrap_err().is_full());
    assert!(sink.commit(result('b')).await.is_err(), "a result without its end came to be");
    assert!(!media.is_full(), "a result that did not come to be kept its room");

    store(media, result('a'), &sample(400)).await.unwrap();
    store(media, result('b'), &sample(600)).await.unwrap();
    assert!(media.is_full(), "what was replaced gave back more than it had");
    store(media, File::Body(rid('a')), &sample(5_000)).await.unwrap();
    for _ in 0..2 {
        media.remove(result('a')).await.unwrap();
    }
    assert!(store(media, result('c'), &sample(401)).await.unwrap_err().is_full());
    store(media, result('c'), &sample(400)).await.unwrap();
}

fn open(dir: &Path, limit: u64) -> FsMedia {
    let key = Key::load_or_create(&dir.join("key")).unwrap();
    FsMedia::open(&dir.join("media"), key, limit).unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("media")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a behaviour on each backend there is.
macro_rules! on_every_backend {
    ($($behaviour:ident: $limit:expr),* $(,)?) => {
        mod folder {
            $(#[actix_rt::test]
            async fn $behaviour() {
                let dir = tempfile::tempdir().unwrap();
                super::$behaviour(&super::open(dir.path(), $limit)).await;
                assert!(!super::names_in(dir.path()).iter().any(|name| name.ends_with(".part")));
            })*
        }
    };
}

on_every_backend! {
    what_is_committed_reads_back: 0,
    what_is_not_durable_comes_with_its_bytes: 0,
    a_result_that_a_power_cut_took_is_written_again: 0,
    settling_passes_over_what_is_gone: 0,
    nothing_is_there_before_the_commit: 0,
    a_range_is_exact_and_never_short: 0,
    a_removal_may_be_repeated: 0,
    a_walk_lists_each_file_once: 0,
    a_name_that_is_not_our_own_is_missing: 0,
    results_stay_below_their_limit: 1_000,
}

#[actix_rt::test]
async fn a_body_is_not_on_the_disk_in_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let media = open(dir.path(), 0);
    let secret = b"card number 4111 1111 1111 1111 ".repeat(5_000);
    store(&media, File::Body(rid('a')), &secret).await.unwrap();
    let path = dir.path().join("media").join(File::Body(rid('a')).file_name());
    let mut on_disk = std::fs::read(&path).unwrap();
    assert!(!on_disk.windows(16).any(|window| window == b"card number 4111"));

    std::fs::copy(&path, path.with_file_name(File::Body(rid('b')).file_name())).unwrap();
    assert!(matches!(all(media.read_body(rid('b')).await).await, Err(Error::Sealed)), "it opened for another request");
    let middle = on_disk.len() / 2;
    on_disk[middle] ^= 1;
    std::fs::write(&path, on_disk).unwrap();
    assert!(matches!(all(media.read_body(rid('a')).await).await, Err(Error::Sealed)), "a changed body opened");
}

#[actix_rt::test]
async fn a_walk_passes_over_foreign_files_and_clears_what_an_earlier_process_left() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 0));
    let folder = dir.path().join("media");
    let foreign = ["README", "bgrs.x.body", "keep1m.txt"];
    for name in foreign {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let left = std::fs::File::create(folder.join(".bgrs.00.part")).unwrap();
    left.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();

    let media = open(dir.path(), 0);
    let mut sink = media.write_result();
    sink.write(sample(LARGE).into()).await.unwrap();
    assert!(walked(&media).await.is_empty());
    sink.commit(result('a')).await.unwrap();
    assert!(!media.is_left_over(&result('a')).await.unwrap());
    assert_eq!(names_in(dir.path()), ["README", "bgrs.x.body", result('a').file_name().as_str(), "keep1m.txt"]);
}
