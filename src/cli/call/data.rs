//! The body that a call is sent with: from the command line, a file or standard input.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use serde::de::IgnoredAny;

use super::Failure;

/// A body that can be sent again.
pub struct Data {
    source: Source,
    length: u64,
}

enum Source {
    Text(String),
    File(File),
}

impl Data {
    /// Reads what an option says: the data itself, `@FILE`, or `@-` for standard input.
    pub fn read(option: &str, argument: String) -> Result<Self, Failure> {
        let Some(name) = argument.strip_prefix('@') else {
            return Ok(Self { length: argument.len() as u64, source: Source::Text(argument) });
        };
        let opened = if name == "-" { spool(io::stdin().lock()) } else { open(name) };
        opened.map_err(|error| Failure::usage(format!("{option} {argument}: {error}")))
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is JSON. A file is read for it piece by piece.
    pub fn is_json(&mut self) -> io::Result<bool> {
        match serde_json::from_reader::<_, IgnoredAny>(BufReader::new(self.reader()?)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_io() => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// The bytes from the beginning, as many as there were at first and no fewer.
    pub fn reader(&mut self) -> io::Result<impl Read + '_> {
        let from: Box<dyn Read + '_> = match &mut self.source {
            Source::Text(text) => Box::new(text.as_bytes()),
            Source::File(file) => {
                file.rewind()?;
                Box::new(&*file)
            }
        };
        Ok(Exactly { from, left: self.length })
    }
}

fn open(name: &str) -> io::Result<Data> {
    let file = File::open(name)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    // A pipe or a device can be read once, and has no length.
    if metadata.is_file() { Ok(Data { source: Source::File(file), length: metadata.len() }) } else { spool(file) }
}

/// Keeps the bytes in a file without a name: they may be sent more than once.
fn spool(mut from: impl Read) -> io::Result<Data> {
    let mut file = tempfile::tempfile()?;
    let length = io::copy(&mut from, &mut file)?;
    Ok(Data { source: Source::File(file), length })
}

/// So many bytes; where they end before, that is an error.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::other("the file has become shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
