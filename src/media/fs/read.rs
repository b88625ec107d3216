//! Reading, a piece at a time.

use std::fs::File as OsFile;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::PIECE;
use super::folder::Folder;
use crate::media::seal::{self, Opener};
use crate::media::{Error, File, Result};
use crate::model::Rid;

/// The rest of a result that is being read.
pub struct Reading {
    file: OsFile,
    left: u64,
}

impl Reading {
    /// A file that is shorter than its row says is an error, not a short answer; it is told before the first byte.
    pub fn open(folder: &Folder, name: &str, range: &Range<u64>) -> Result<Self> {
        let mut file = OsFile::open(folder.result(name)?)?;
        if file.metadata()?.len() < range.end {
            return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Self { file, left: range.end.saturating_sub(range.start) })
    }

    /// The next piece, and what is left after it.
    pub fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        let length = self.left.min(PIECE as u64);
        // At most PIECE: it fits.
        let mut piece = vec![0; length as usize];
        self.file.read_exact(&mut piece)?;
        self.left -= length;
        Ok((piece.into(), (self.left > 0).then_some(self)))
    }
}

/// The rest of a body that is being read and decrypted.
pub struct Unsealing {
    file: OsFile,
    opener: Opener,
    left: u64,
}

impl Unsealing {
    pub fn open(folder: &Folder, rid: Rid) -> Result<Self> {
        let mut file = OsFile::open(folder.path(&File::Body(rid))?)?;
        let length = file.metadata()?.len();
        let mut nonce = [0; seal::NONCE];
        file.read_exact(&mut nonce).map_err(|_| Error::Sealed)?;
        let opener = Opener::new(&folder.key, rid, &nonce);
        Ok(Self { file, opener, left: length - seal::NONCE as u64 })
    }

    pub fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        let length = self.left.min((seal::CHUNK + seal::TAG) as u64);
        // At most a chunk: it fits.
        let mut sealed = vec![0; length as usize];
        self.file.read_exact(&mut sealed)?;
        self.left -= length;
        if self.left == 0 {
            return Ok((self.opener.last(&sealed)?.into(), None));
        }
        Ok((self.opener.next(&sealed)?.into(), Some(self)))
    }
}
