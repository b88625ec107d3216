//! What the header of the WAL index says, the file behind `-shm` (<https://www.sqlite.org/walformat.html>, section 2.2).

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of each of the header's two copies. The second is written first: where they are alike, neither is half-written.
const COPY: usize = 48;

/// Where the checksum stands in a copy.
const CHECKSUM: usize = 40;

/// Looks at copies that are being written.
const TRIES: usize = 100;

/// The file. `None`: there is none, and nothing is known. Never closed: that would take away the locks that SQLite holds on
/// the same file in this process (fcntl(2)).
pub struct WalIndex(Option<ManuallyDrop<File>>);

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// One more with each commit that has changed something, of whatever process.
    pub commits: u32,
    /// Frames (pages) in the log.
    pub frames: u32,
    /// Another with each commit, and where the log is begun anew.
    pub checksum: u64,
}

impl WalIndex {
    /// That of a database that is open.
    pub fn open(database: &Path) -> Self {
        let mut index = database.as_os_str().to_owned();
        index.push("-shm");
        Self(File::open(index).ok().map(ManuallyDrop::new))
    }

    /// The header.
    pub fn header(&self) -> Option<Header> {
        let whole = |copies: &[u8; 2 * COPY]| copies[..COPY] == copies[COPY..];
        let copies = (0..TRIES).map_while(|_| self.read::<{ 2 * COPY }>(0)).find(whole)?;
        let number = |at: usize| Some(u32::from_ne_bytes(copies[at..at + 4].try_into().ok()?));
        let checksum = u64::from_ne_bytes(copies[CHECKSUM..CHECKSUM + 8].try_into().ok()?);
        Some(Header { commits: number(8)?, frames: number(16)?, checksum })
    }

    /// The header's checksum alone; half-written, it is like none that was there before.
    pub fn checksum(&self) -> Option<u64> {
        self.read(CHECKSUM as u64).map(u64::from_ne_bytes)
    }

    fn read<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}
