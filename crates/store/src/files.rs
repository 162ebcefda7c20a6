//! The one place where files are created, renamed and deleted:
//!
//! 1. [`replace_file`]: a sibling is written and synced, renamed over the file, and the directory synced, so that a
//!    reader sees the old bytes or the new ones; [`write_output`] does so where a user pointed at a plain file, and
//!    writes into whatever else stands there;
//! 2. [`StagedDirectory`] publishes a directory, its marker file written last; [`withdraw_directory`] and
//!    [`move_directory`] take one away by the same rename;
//! 3. [`Appender`] appends a record, and cuts back what a failed or killed append left behind;
//! 4. [`take_lock`] takes a lock that the system releases when its holder dies.

#![expect(clippy::disallowed_methods, reason = "this is the module that may touch files")]

use crate::{LockHolder, StoreError};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Prefix of a directory that is being written.
const STAGED: &str = ".new-";
/// Prefix of a directory that is being deleted.
const GONE: &str = ".gone-";

/// The error of a write that failed at `path`.
pub(crate) fn not_writable(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::NotWritable { path, source }
}

/// The error of a read that failed at `path`.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Unreadable { path, source }
}

/// Seconds since 1970 UTC; 0 if the clock stands before that.
pub(crate) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Makes `dir` and those above it.
pub(crate) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(not_writable(dir))
}

/// Makes renames and new names in `dir` survive a loss of power.
fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    // Windows cannot open a directory as a file, and orders metadata itself.
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).map_err(not_writable(dir))?;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Replaces `path` with `bytes`, at once or not at all, making the directories above it.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    make_directory(parent(path))?;
    replace_by_sibling(path, bytes, |_| Ok(())).map_err(not_writable(path))?;
    sync_directory(parent(path))
}

/// Replaces `path` with what `produce` hands out piece by piece, at once or not at all, making the directories above
/// it.
pub(crate) fn replace_file_streamed<T, E: From<StoreError>>(
    path: &Path,
    produce: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), StoreError>) -> Result<T, E>,
) -> Result<T, E> {
    make_directory(parent(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let sibling = parent(path).join(format!(".{name}.{}-streamed.tmp", std::process::id()));
    let write = || -> Result<T, E> {
        let file = File::create(&sibling).map_err(not_writable(path))?;
        let mut file = io::BufWriter::with_capacity(1 << 20, file);
        let made = produce(&mut |bytes| file.write_all(bytes).map_err(not_writable(path)))?;
        let file = file.into_inner().map_err(|e| not_writable(path)(e.into_error()))?;
        file.sync_all().map_err(not_writable(path))?;
        fs::rename(&sibling, path).map_err(not_writable(path))?;
        Ok(made)
    };
    let made = write().inspect_err(|_| {
        let _ = fs::remove_file(&sibling);
    })?;
    sync_directory(parent(path))?;
    Ok(made)
}

/// Writes a sibling, lets `like` give it what the file it replaces had, and renames it over `path`.
fn replace_by_sibling(
    path: &Path,
    bytes: &[u8],
    like: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let sibling = parent(path).join(format!(".{name}.{}-{unique}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = File::create(&sibling)?;
        file.write_all(bytes)?;
        like(&file)?;
        file.sync_all()?;
        fs::rename(&sibling, path)
    };
    write().inspect_err(|_| {
        // The first error is the one that matters; the sibling may not even exist.
        let _ = fs::remove_file(&sibling);
    })
}

/// Writes `bytes` where a user asked for them, as `>` would, but a plain file at once or not at all.
///
/// Links are followed. A device, a pipe or a terminal is written into and stays what it is. A plain file keeps its
/// mode and owner; it is overwritten in place where it cannot be replaced: with a second name (a hard link), mounted
/// on its own, or in a directory that may not be written to.
pub(crate) fn write_output(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fail = not_writable(path);
    let directory = || io::Error::from(io::ErrorKind::IsADirectory);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(fail(directory())),
        Ok(found) if found.is_file() => {
            // Asked before anything changes: a name in a writable directory may be a file that is protected.
            OpenOptions::new().write(true).open(path).map_err(not_writable(path))?;
            match fs::canonicalize(path) {
                Ok(real) if is_replaceable(&real, &found) => replace_or_overwrite(&real, &found, bytes),
                // An open file without a name, as behind /dev/fd/3.
                _ => overwrite(path, bytes, true),
            }
            .map_err(fail)
        }
        Ok(_) => overwrite(path, bytes, false).map_err(fail),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
                return Err(fail(directory()));
            }
            // A link to what does not exist yet makes that.
            replace_file(&followed(path).map_err(fail)?, bytes)
        }
        Err(e) => Err(fail(e)),
    }
}

/// Where the links at `path` lead, whether something is there or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&at) {
            Ok(next) => at = parent(&at).join(next),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("a link that leads to itself"))
}

/// Opens what is there and writes into it.
fn overwrite(path: &Path, bytes: &[u8], plain: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(plain).open(path)?;
    file.write_all(bytes)?;
    // A pipe or a device has nothing to sync.
    if plain { file.sync_all() } else { Ok(()) }
}

/// Replaces a plain file, or overwrites it where its directory does not allow that.
fn replace_or_overwrite(path: &Path, found: &fs::Metadata, bytes: &[u8]) -> io::Result<()> {
    match replace_by_sibling(path, bytes, |file| make_alike(file, found)) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::CrossesDevices
            ) =>
        {
            overwrite(path, bytes, true)
        }
        replaced => replaced.and_then(|()| match cfg!(unix) {
            true => File::open(parent(path)).and_then(|d| d.sync_all()),
            false => Ok(()),
        }),
    }
}

/// Whether replacing the name replaces the file: it is the only name of what was found.
#[cfg(unix)]
fn is_replaceable(path: &Path, found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |m: fs::Metadata| (m.dev(), m.ino()) == (found.dev(), found.ino());
    found.nlink() == 1 && fs::symlink_metadata(path).is_ok_and(same)
}

#[cfg(not(unix))]
fn is_replaceable(_path: &Path, _found: &fs::Metadata) -> bool {
    true
}

/// Gives a new file the mode and the owner of the one it will replace.
#[cfg(unix)]
fn make_alike(file: &File, found: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) != (found.uid(), found.gid()) {
        std::os::unix::fs::fchown(file, Some(found.uid()), Some(found.gid()))?;
    }
    file.set_permissions(found.permissions())
}

#[cfg(not(unix))]
fn make_alike(_file: &File, _found: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// Seconds it takes to write so many bytes to a new file in `dir` and to have them on the disk; the file is deleted.
pub(crate) fn time_writing(dir: &Path, bytes: usize) -> io::Result<f64> {
    let path = dir.join(format!(".isoflop-speed.{}.tmp", std::process::id()));
    // Not zeros, which some file systems do not store.
    let block: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let write = || -> io::Result<f64> {
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        let start = std::time::Instant::now();
        let mut left = bytes;
        while left > 0 {
            let part = left.min(block.len());
            file.write_all(&block[..part])?;
            left -= part;
        }
        file.sync_data()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let seconds = write();
    let _ = fs::remove_file(&path);
    seconds
}

/// Deletes a file, if it exists.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(not_writable(path)(e)),
        _ => Ok(()),
    }
}

/// Gives a file another name in its directory, which survives a loss of power.
pub(crate) fn rename_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(not_writable(from))?;
    sync_directory(parent(to))
}

/// A directory being written beside the place where it will appear. Dropped before [`StagedDirectory::publish`], it
/// is deleted.
#[derive(Debug)]
pub(crate) struct StagedDirectory {
    target: PathBuf,
    staged: PathBuf,
    done: bool,
}

impl StagedDirectory {
    /// Begins the directory `name` inside `parent`. Only one process may do so at a time (the run's lock sees to it).
    pub(crate) fn begin(parent: &Path, name: &str) -> Result<Self, StoreError> {
        make_directory(parent)?;
        let staged = parent.join(format!("{STAGED}{name}"));
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(not_writable(&staged))?;
        }
        fs::create_dir(&staged).map_err(not_writable(&staged))?;
        Ok(Self { target: parent.join(name), staged, done: false })
    }

    /// Where it will appear.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where it is being written.
    pub(crate) fn path(&self) -> &Path {
        &self.staged
    }

    /// Creates a file in it. The caller syncs it before publishing.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.staged.join(name);
        File::create(&path).map_err(not_writable(&path))
    }

    /// Writes the marker file last, then lets the directory appear, in place of one of the same name.
    pub(crate) fn publish(mut self, marker: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let parent = parent(&self.target).to_owned();
        sync_directory(&self.staged)?;
        replace_file(&self.staged.join(marker), bytes)?;
        // From here on the staged directory is complete: should the process die between the two renames below, the
        // next sweep finishes the second.
        let old = gone_name(&self.target);
        let had_old = self.target.exists();
        if had_old {
            fs::rename(&self.target, &old).map_err(not_writable(&self.target))?;
        }
        fs::rename(&self.staged, &self.target).map_err(not_writable(&self.target))?;
        self.done = true;
        sync_directory(&parent)?;
        if had_old {
            fs::remove_dir_all(&old).map_err(not_writable(&old))?;
        }
        Ok(())
    }
}

impl Drop for StagedDirectory {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about a failure here; the next sweep tries again.
            let _ = fs::remove_dir_all(&self.staged);
        }
    }
}

fn gone_name(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    parent(dir).join(format!("{GONE}{name}-{}", std::process::id()))
}

/// Deletes a directory: it disappears at once, its files after that.
pub(crate) fn withdraw_directory(dir: &Path) -> Result<(), StoreError> {
    let gone = gone_name(dir);
    match fs::rename(dir, &gone) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(not_writable(dir))?,
    }
    fs::remove_dir_all(&gone).map_err(not_writable(&gone))?;
    sync_directory(parent(dir))
}

/// Moves a directory within the store.
pub(crate) fn move_directory(from: &Path, to: &Path) -> Result<(), StoreError> {
    make_directory(parent(to))?;
    fs::rename(from, to).map_err(not_writable(from))?;
    sync_directory(parent(from))
}

/// Clears `dir` of what killed processes left behind: half-written siblings and directories go; a directory whose
/// marker was written but which had not appeared yet appears. The caller holds the lock under which `dir` is written.
pub(crate) fn sweep(dir: &Path, marker: &str) -> Result<(), StoreError> {
    for name in names(dir)? {
        let path = dir.join(&name);
        if let Some(label) = name.strip_prefix(STAGED) {
            let target = dir.join(label);
            if path.join(marker).exists() && !target.exists() {
                fs::rename(&path, &target).map_err(not_writable(&target))?;
                sync_directory(dir)?;
            } else {
                fs::remove_dir_all(&path).map_err(not_writable(&path))?;
            }
        } else if name.starts_with(GONE) {
            fs::remove_dir_all(&path).map_err(not_writable(&path))?;
        } else if name.starts_with('.') && name.ends_with(".tmp") {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Deletes what interrupted removals of runs left in the store's root.
pub(crate) fn sweep_removed(root: &Path) -> Result<(), StoreError> {
    for name in names(root)?.iter().filter(|n| n.starts_with(GONE)) {
        // Another process may be deleting the same one.
        let _ = fs::remove_dir_all(root.join(name));
    }
    Ok(())
}

/// Names in `dir`, sorted; none if it does not exist. Names that are not UTF-8 are not ours and are left out.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(unreadable(dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(unreadable(dir))?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A file that grows by whole records.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    file: File,
    len: u64,
    /// Set when a failed append could not be undone: anything after it would follow half a record.
    broken: bool,
}

impl Appender {
    /// Opens `path` for appending, keeping its first `keep` bytes.
    pub(crate) fn open(path: &Path, keep: u64) -> Result<Self, StoreError> {
        let file =
            OpenOptions::new().create(true).append(true).read(true).open(path).map_err(not_writable(path))?;
        let mut appender = Self { path: path.to_owned(), file, len: keep, broken: false };
        appender.cut(keep)?;
        Ok(appender)
    }

    /// Appends one record with a single write. If it fails (a full disk), the file is as before.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<(), StoreError> {
        if self.broken {
            let error = io::Error::other("an earlier record could not be written in full");
            return Err(not_writable(&self.path)(error));
        }
        if let Err(error) = self.file.write_all(record) {
            self.broken = self.file.set_len(self.len).is_err();
            return Err(not_writable(&self.path)(error));
        }
        self.len += record.len() as u64;
        Ok(())
    }

    /// Keeps the first `len` bytes.
    pub(crate) fn cut(&mut self, len: u64) -> Result<(), StoreError> {
        let found = self.file.metadata().map_err(unreadable(&self.path))?.len();
        assert!(len <= found, "a log is cut back, never stretched");
        if len < found {
            self.file.set_len(len).map_err(not_writable(&self.path))?;
        }
        self.len = len;
        Ok(())
    }

    /// Bytes in it.
    pub(crate) fn length(&self) -> u64 {
        self.len
    }

    /// Makes everything appended so far survive a loss of power.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(not_writable(&self.path))
    }
}

/// Why a lock could not be taken.
pub(crate) enum LockFailure {
    /// Another process holds it.
    Held(LockHolder),
    /// The lock file could not be used.
    Store(StoreError),
}

/// A lock that is held until it is dropped or its process dies.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do while a child process that is being started still shares the descriptor.
        let _ = self.0.unlock();
    }
}

/// Takes the lock at `path` and writes who holds it. The system releases it even for a process that is killed.
pub(crate) fn take_lock(path: &Path) -> Result<Lock, LockFailure> {
    let fail = |e| LockFailure::Store(not_writable(path)(e));
    loop {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockFailure::Held(read_holder(path))),
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        // The run may have been removed between the opening and the locking: then this lock guards nothing.
        if !is_same_file(&file, path) {
            continue;
        }
        let text = serde_json::json!({ "pid": std::process::id(), "since_unix_s": now_unix_s() }).to_string();
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(fail)?;
        return Ok(Lock(file));
    }
}

fn read_holder(path: &Path) -> LockHolder {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    LockHolder {
        pid: value["pid"].as_u64().and_then(|p| u32::try_from(p).ok()),
        since_unix_s: value["since_unix_s"].as_u64(),
    }
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests;
