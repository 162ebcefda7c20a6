//! A stream of tokens, training or held out, cut into files: nanoGPT's layout, little-endian ids and nothing else.
//!
//! A shard grows as `train-00000.part` and gets its name, `train-00000.bin`, when it is full. How long it was is in the
//! last checkpoint; a preparation that goes on takes a name away again where it must, and cuts back.

use super::settings::Separator;
use super::work::append;
use isoflop_base::bits::hex;
use isoflop_data::TokenDtype;
use isoflop_store::{Growing, JobFolder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read as _;

/// Bytes that wait to be appended.
const WAITING: usize = 1 << 20;

/// What a stream came to so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Documents in it.
    pub documents: u64,
    /// Tokens in it, those between documents too.
    pub tokens: u64,
    /// Bytes of text they stand for.
    pub text_bytes: u64,
    /// Shards that are full.
    pub shards: Vec<Shard>,
    /// Source and record of the last document, which the next one may go on.
    pub last: Option<(usize, u64)>,
    /// Bytes of the shard that is growing.
    pub growing: u64,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// Its file.
    pub file: String,
    /// Tokens in it.
    pub tokens: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// How streams lie in their files.
#[derive(Debug, Clone)]
pub struct Form {
    /// Width of a token.
    pub dtype: TokenDtype,
    /// Tokens of a shard.
    pub shard_tokens: u64,
    /// What stands between documents.
    pub separator: Separator,
}

/// A stream being written.
pub struct StreamWriter<'f> {
    folder: &'f JobFolder,
    name: &'static str,
    dtype: TokenDtype,
    shard_bytes: u64,
    separator: Vec<u8>,
    separator_ids: u64,
    separator_bytes: u64,
    state: Stream,
    file: Option<Growing>,
    hash: Sha256,
    waiting: Vec<u8>,
}

impl<'f> StreamWriter<'f> {
    /// Goes on with a stream as its last checkpoint left it.
    ///
    /// # Errors
    /// Its files cannot be opened, or are not what they were.
    pub fn open(
        folder: &'f JobFolder,
        name: &'static str,
        form: &Form,
        state: Stream,
    ) -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        append(form.dtype, &form.separator.ids, &mut bytes);
        let mut writer = Self {
            folder,
            name,
            dtype: form.dtype,
            shard_bytes: form.shard_tokens * form.dtype.width(),
            separator: bytes,
            separator_ids: form.separator.ids.len() as u64,
            separator_bytes: form.separator.bytes,
            state,
            file: None,
            hash: Sha256::new(),
            waiting: Vec::new(),
        };
        writer.go_back()?;
        Ok(writer)
    }

    fn part(&self) -> String {
        format!("{}-{:05}.part", self.name, self.state.shards.len())
    }

    fn full(&self) -> String {
        format!("{}-{:05}.bin", self.name, self.state.shards.len())
    }

    /// Undoes what came after the checkpoint.
    fn go_back(&mut self) -> anyhow::Result<()> {
        let later = |name: &str| {
            let number = name.strip_prefix(self.name)?.strip_prefix('-')?.split('.').next()?;
            Some(number.parse::<usize>().ok()? > self.state.shards.len())
        };
        for name in JobFolder::names(self.folder.path())?.iter().filter(|name| later(name) == Some(true)) {
            self.folder.remove(name)?;
        }
        let (part, full) = (self.part(), self.full());
        if !self.folder.path().join(&part).exists() && self.folder.path().join(&full).exists() {
            self.folder.publish(&full, &part)?;
        }
        if self.state.growing == 0 {
            return Ok(self.folder.remove(&part)?);
        }
        self.file = Some(self.folder.grow(&part, self.state.growing)?);
        let mut from = File::open(self.folder.path().join(&part))?;
        let mut buffer = vec![0; WAITING];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.hash.update(&buffer[..read]),
            }
        }
    }

    /// Appends a document: ids as they lie in a shard, and the bytes of text they stand for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn document(
        &mut self,
        place: (usize, u64),
        continues: bool,
        ids: &[u8],
        text_bytes: u64,
    ) -> anyhow::Result<()> {
        let follows =
            continues && self.state.last.is_some_and(|(source, record)| (source, record + 1) == place);
        if self.state.last.is_some() && !follows {
            self.separate()?;
        }
        self.state.last = Some(place);
        self.state.documents += 1;
        self.state.text_bytes += text_bytes;
        self.state.tokens += ids.len() as u64 / self.dtype.width();
        self.put(ids)
    }

    fn separate(&mut self) -> anyhow::Result<()> {
        let separator = std::mem::take(&mut self.separator);
        self.put(&separator)?;
        self.separator = separator;
        self.state.tokens += self.separator_ids;
        self.state.text_bytes += self.separator_bytes;
        Ok(())
    }

    fn put(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let room = self.shard_bytes - self.state.growing;
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.waiting.extend_from_slice(&bytes[..count]);
            self.state.growing += count as u64;
            bytes = &bytes[count..];
            if self.waiting.len() >= WAITING {
                self.flush()?;
            }
            if self.state.growing == self.shard_bytes {
                self.end_shard()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.folder.grow(&self.part(), 0)?);
        }
        let file = self.file.as_mut().expect("it was opened");
        file.append(&self.waiting)?;
        self.hash.update(&self.waiting);
        self.waiting.clear();
        Ok(())
    }

    fn end_shard(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        let Some(file) = self.file.take() else { return Ok(()) };
        file.sync()?;
        drop(file);
        let (part, full) = (self.part(), self.full());
        self.folder.publish(&part, &full)?;
        let sha256 = hex(&std::mem::replace(&mut self.hash, Sha256::new()).finalize());
        let tokens = self.state.growing / self.dtype.width();
        self.state.shards.push(Shard { file: full, tokens, sha256 });
        self.state.growing = 0;
        Ok(())
    }

    /// Brings all to disk; what a checkpoint has to know.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&mut self) -> anyhow::Result<Stream> {
        self.flush()?;
        if let Some(file) = &self.file {
            file.sync()?;
        }
        Ok(self.state.clone())
    }

    /// Ends the stream with what stands between documents.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> anyhow::Result<Stream> {
        if self.state.last.is_some() {
            self.separate()?;
        }
        self.end_shard()?;
        Ok(self.state)
    }

    /// What it came to so far.
    pub fn state(&self) -> &Stream {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    const DOCUMENTS: u64 = 40;

    fn form() -> Form {
        let separator = Separator { ids: vec![7, 8], bytes: 2 };
        Form { dtype: TokenDtype::U16, shard_tokens: 50, separator }
    }

    /// Writes documents from `first` on; the state behind each.
    fn write(writer: &mut StreamWriter<'_>, first: u64) -> Vec<Stream> {
        let one = |record: u64| {
            let ids = (0..1 + record % 23).flat_map(|i| ((100 * record + i) as u16).to_le_bytes());
            let ids: Vec<u8> = ids.collect();
            writer.document((0, record), record % 5 == 1, &ids, 3 * record).unwrap();
            writer.save().unwrap()
        };
        (first..DOCUMENTS).map(one).collect()
    }

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = JobFolder::names(dir).unwrap();
        names.into_iter().map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap())).collect()
    }

    #[test]
    fn a_stream_gone_on_with_from_any_checkpoint_is_the_same_stream() {
        let dir = tempfile::tempdir().unwrap();
        let folder = JobFolder::take(dir.path()).unwrap();
        let mut writer = StreamWriter::open(&folder, "train", &form(), Stream::default()).unwrap();
        let mut states = vec![Stream::default()];
        states.extend(write(&mut writer, 0));
        let whole = writer.finish().unwrap();
        let expected = files(dir.path());
        assert!(whole.shards.len() > 5 && expected.len() == whole.shards.len() + 1, "{whole:?}");
        let tokens = whole.shards.iter().map(|shard| shard.tokens).sum::<u64>();
        assert_eq!((tokens, whole.documents), (whole.tokens, DOCUMENTS));
        // Behind a document stands the separator, but where the next one goes on: records 1, 6, 11, …
        let documents: u64 = (0..DOCUMENTS).map(|record| 1 + record % 23).sum();
        assert_eq!(whole.tokens, documents + 2 * (DOCUMENTS - 8));
        for (shard, file) in whole.shards.iter().zip(expected.values().skip(1)) {
            assert_eq!(shard.sha256, hex(&Sha256::digest(file)));
        }
        // From what lies there at the end, back to each checkpoint and on again.
        for (first, state) in states.into_iter().enumerate().rev() {
            let mut writer = StreamWriter::open(&folder, "train", &form(), state).unwrap();
            write(&mut writer, first as u64);
            assert_eq!(writer.finish().unwrap(), whole, "from {first}");
            assert!(files(dir.path()) == expected, "from {first}");
        }
    }
}
