//! What the header of the WAL index says, the file behind `-shm` (<https://www.sqlite.org/walformat.html>, section 2.2).

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mmap_io::MemoryMappedFile;
use mmap_io::atomic::AtomicSliceView;

/// Words of eight bytes in each of the header's two copies. The second is written first: where they are alike, neither is
/// half-written.
const COPY: usize = 6;

/// Which of a copy's words is the checksum.
const CHECKSUM: usize = 5;

/// Looks at copies that are being written.
const TRIES: usize = 100;

/// The header, where SQLite has it itself: each call looks at it, and a call of the system for that, from several threads at
/// once, is a twentieth of passing a call on. Only ever read. `None`: there is none, and nothing is known. Never unmapped and
/// closed: that would take away the locks that SQLite holds on the same file in this process (fcntl(2)).
pub struct WalIndex(Option<ManuallyDrop<AtomicSliceView<'static, AtomicU64>>>);

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
        let words = || {
            // The library gives words that are read at once of what can be written alone.
            let mapping: &'static _ = Box::leak(Box::new(MemoryMappedFile::open_rw(index)?));
            mapping.atomic_u64_slice(0, 2 * COPY)
        };
        Self(words().ok().map(ManuallyDrop::new))
    }

    /// The header.
    pub fn header(&self) -> Option<Header> {
        let copies = (0..TRIES).map_while(|_| self.copies()).find(|copies| copies[..COPY] == copies[COPY..])?;
        let number = |at: usize| {
            let bytes = copies[at / 8].to_ne_bytes();
            Some(u32::from_ne_bytes(bytes[at % 8..at % 8 + 4].try_into().ok()?))
        };
        Some(Header { commits: number(8)?, frames: number(16)?, checksum: copies[CHECKSUM] })
    }

    /// The header's checksum alone; half-written, it is like none that was there before.
    pub fn checksum(&self) -> Option<u64> {
        Some(self.0.as_ref()?[CHECKSUM].load(Ordering::Acquire))
    }

    /// Both copies, the one that is written last before the other.
    fn copies(&self) -> Option<[u64; 2 * COPY]> {
        let words = self.0.as_ref()?;
        Some(std::array::from_fn(|at| words[at].load(Ordering::Acquire)))
    }
}
