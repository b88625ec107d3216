//! Where a result goes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::Failure;

/// What a new file may be for others, before the umask.
const MODE: u32 = 0o666;

/// Standard output or a file.
pub enum Output {
    /// Standard output: whatever the result's status.
    Standard,
    /// A pipe or a device that was named.
    Stream(File),
    /// A file, which appears when it is whole.
    File {
        /// What is written until then, in the same folder.
        temporary: NamedTempFile,
        /// Where it will be.
        target: PathBuf,
    },
}

impl Output {
    /// Opens it, before anything is submitted whose result could not be kept.
    pub fn open(file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            None => Ok(Self::Standard),
            Some(file) => to(file).map_err(|error| Failure::usage(format!("-o {}: {error}", file.display()))),
        }
    }

    /// The file that is there until the result is whole.
    pub fn temporary(&self) -> Option<PathBuf> {
        match self {
            Self::File { temporary, .. } => Some(temporary.path().to_owned()),
            _ => None,
        }
    }

    /// Whether only a success is written to it.
    pub fn is_named(&self) -> bool {
        !matches!(self, Self::Standard)
    }

    /// Writes a piece.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => io::stdout().lock().write_all(piece),
            Self::Stream(file) => file.write_all(piece),
            Self::File { temporary, .. } => temporary.as_file_mut().write_all(piece),
        }
    }

    /// Forgets what was written, where that can be done.
    pub fn restart(&mut self) -> io::Result<bool> {
        let Self::File { temporary, .. } = self else { return Ok(false) };
        let file = temporary.as_file_mut();
        file.set_len(0)?;
        file.rewind()?;
        Ok(true)
    }

    /// All is written.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Standard => io::stdout().lock().flush(),
            Self::Stream(_) => Ok(()),
            Self::File { temporary, target } => {
                // Renamed before its bytes are on the disk, a power cut would leave an empty one.
                temporary.as_file().sync_all()?;
                temporary.persist(target).map(drop).map_err(|error| error.error)
            }
        }
    }
}

fn to(file: &Path) -> io::Result<Output> {
    // What a link leads to is replaced, not the link.
    let file = match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        found => found?,
    };
    let there = match fs::metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    let (Some(name), false) = (file.file_name(), there.as_ref().is_some_and(fs::Metadata::is_dir)) else {
        return Err(io::Error::other("it is a folder"));
    };
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return OpenOptions::new().write(true).open(&file).map(Output::Stream);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".bgrs-").suffix(".part").permissions(Permissions::from_mode(MODE));
    let temporary = builder.tempfile_in(folder)?;
    if let Some(there) = there {
        temporary.as_file().set_permissions(there.permissions())?;
    }
    let target = folder.join(name);
    Ok(Output::File { temporary, target })
}
