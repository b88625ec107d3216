//! What the header of the WAL index says, the file behind `-shm` (<https://www.sqlite.org/walformat.html>, section 2.2).

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the number of the log's last frame stands in the header's first copy.
const FRAMES: u64 = 16;

/// Where its checksum does.
const CHECKSUM: u64 = 40;

/// The file. `None`: there is none, and nothing is known. Never closed: that would take away the locks that SQLite holds on
/// the same file in this process (fcntl(2)).
pub struct WalIndex(Option<ManuallyDrop<File>>);

impl WalIndex {
    /// That of a database that is open.
    pub fn open(database: &Path) -> Self {
        let mut index = database.as_os_str().to_owned();
        index.push("-shm");
        Self(File::open(index).ok().map(ManuallyDrop::new))
    }

    /// What each commit of any process changes.
    pub fn checksum(&self) -> Option<u64> {
        self.read(CHECKSUM).map(u64::from_ne_bytes)
    }

    /// How many frames (pages) the log has.
    pub fn frames(&self) -> Option<u32> {
        self.read(FRAMES).map(u32::from_ne_bytes)
    }

    fn read<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}
