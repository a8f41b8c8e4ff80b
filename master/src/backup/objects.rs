//! Objects: whole, immutable values under names, in a directory or an object store, for what must outlive all masters.
//!
//! An object is there as a whole or not at all, and durable when its writer has been told so. Every access ends within
//! [`BACKUP_PATIENCE`]: a destination that hangs is one that fails.

use bytes::{Bytes, BytesMut};
use cairn_core::limits::{BACKUP_PART_BYTES, BACKUP_PATIENCE};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result as Answer,
};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use thiserror::Error as ErrorTrait;

/// Why objects cannot be reached; shown to the user as it is.
#[derive(Debug, ErrorTrait)]
pub enum ObjectsError {
    /// No such destination can be used.
    #[error("backup destination {url}: {detail}")]
    Destination {
        /// As it was given.
        url: String,
        /// What is wrong, and the way out.
        detail: String,
    },
    /// No object has this name.
    #[error("backup destination {url}: there is no object {name}")]
    Missing {
        /// The destination.
        url: String,
        /// Below it.
        name: String,
    },
    /// The store or the way to it.
    #[error("backup destination {url}: {name}: {detail}: check that it is reachable, writable and has room")]
    Failed {
        /// The destination.
        url: String,
        /// The object, or where a listing was to begin.
        name: String,
        /// The store's word.
        detail: String,
    },
}

/// A destination. Clones share its connections.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Everything stands below it.
    root: Path,
    url: Arc<str>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens `file:///directory`, which must exist (what is to be mounted there may not be), or `s3://bucket/prefix`, whose
    /// endpoint, region and keys come from the environment (`AWS_…`). Touches the disk for a moment.
    ///
    /// # Errors
    /// `Destination`.
    pub fn open(url: &str) -> Result<Self, ObjectsError> {
        let unfit = |detail: String| ObjectsError::Destination { url: url.to_owned(), detail };
        let (store, root): (Arc<dyn ObjectStore>, &str) = if let Some(directory) = url.strip_prefix("file://")
        {
            if !directory.starts_with('/') {
                return Err(unfit("is not file:///directory with an absolute path".to_owned()));
            }
            let store = LocalFileSystem::new_with_prefix(directory).map_err(|error| {
                unfit(format!("{error}: make the directory, or mount what is to be there"))
            })?;
            (Arc::new(store.with_fsync(true).with_automatic_cleanup(true)), "")
        } else if let Some(place) = url.strip_prefix("s3://") {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
            let hint = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and AWS_ENDPOINT if it is not Amazon's";
            (Arc::new(store.map_err(|error| unfit(format!("{error}: {hint}")))?), prefix)
        } else {
            return Err(unfit("is neither file:///directory nor s3://bucket/prefix".to_owned()));
        };
        Ok(Self { store, root: Path::from(root), url: url.into() })
    }

    /// Objects in memory.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self {
            store: Arc::new(object_store::memory::InMemory::new()),
            root: Path::default(),
            url: "memory:".into(),
        }
    }

    /// The destination, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.root))
    }

    async fn within<T>(
        &self,
        name: &str,
        access: impl Future<Output = Answer<T>>,
    ) -> Result<T, ObjectsError> {
        let (url, name) = (self.url.to_string(), name.to_owned());
        match tokio::time::timeout(BACKUP_PATIENCE, access).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Error::NotFound { .. })) => Err(ObjectsError::Missing { url, name }),
            Ok(Err(error)) => Err(ObjectsError::Failed { url, name, detail: error.to_string() }),
            Err(_) => {
                let detail = format!("no answer within {} s", BACKUP_PATIENCE.as_secs());
                Err(ObjectsError::Failed { url, name, detail })
            }
        }
    }

    /// Names below `below` with their sizes, in order; with `after` only those behind that one.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn list(&self, below: &str, after: Option<&str>) -> Result<Vec<(String, u64)>, ObjectsError> {
        let mut names = Vec::new();
        let take = |name: &str, size| {
            names.push((name.to_owned(), size));
            ControlFlow::Continue(())
        };
        self.each(below, after, take).await?;
        names.sort();
        Ok(names)
    }

    /// The same for listings of any length: one name after the other, in no order, until `see` has seen enough.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn each(
        &self,
        below: &str,
        after: Option<&str>,
        mut see: impl FnMut(&str, u64) -> ControlFlow<()>,
    ) -> Result<(), ObjectsError> {
        let prefix = self.path(below);
        let mut listing = match after {
            Some(after) => self.store.list_with_offset(Some(&prefix), &self.path(after)),
            None => self.store.list(Some(&prefix)),
        };
        while let Some(found) = self.within(below, listing.try_next()).await? {
            let parts: Vec<_> = found.location.parts().skip(self.root.parts().count()).collect();
            let name: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
            if see(&name.join("/"), found.size).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Removes objects, in no order; those that are not there are no fault.
    ///
    /// # Errors
    /// `Failed`; some may be gone.
    pub async fn remove(&self, names: Vec<String>) -> Result<(), ObjectsError> {
        let first = names.first().cloned().unwrap_or_default();
        let paths: Vec<Answer<Path>> = names.iter().map(|name| Ok(self.path(name))).collect();
        let mut removing = self.store.delete_stream(futures::stream::iter(paths).boxed());
        loop {
            match self.within(&first, removing.try_next()).await {
                Ok(Some(_)) | Err(ObjectsError::Missing { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Last parts of the names of what stands directly below `below` and has something below itself, in order.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn directories(&self, below: &str) -> Result<Vec<String>, ObjectsError> {
        let prefix = self.path(below);
        let found = self.within(below, self.store.list_with_delimiter(Some(&prefix))).await?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<String> = found.common_prefixes.iter().filter_map(last).collect();
        names.sort();
        Ok(names)
    }

    /// Puts an object, in place of one of the same name.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.within(name, self.store.put(&self.path(name), bytes.into())).await.map(drop)
    }

    /// Puts an object unless one of the same name is there. Whether it did.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn claim(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectsError> {
        let options = PutOptions::from(PutMode::Create);
        let path = self.path(name);
        let put = async {
            match self.store.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.within(name, put).await
    }

    /// A whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// `Missing`, `Failed`.
    pub async fn get(&self, name: &str, limit: u64) -> Result<Bytes, ObjectsError> {
        let path = self.path(name);
        let get = async {
            let found = self.store.get(&path).await?;
            if found.meta.size > limit {
                let source = format!("it has {} bytes, more than any of its kind", found.meta.size).into();
                return Err(Error::Generic { store: "backup", source });
            }
            found.bytes().await
        };
        self.within(name, get).await
    }

    /// The first `length` bytes of an object.
    ///
    /// # Errors
    /// `Missing`, `Failed`.
    pub async fn beginning(&self, name: &str, length: usize) -> Result<Bytes, ObjectsError> {
        self.within(name, self.store.get_range(&self.path(name), 0..length as u64)).await
    }

    /// An object from its beginning to its end, in pieces.
    ///
    /// # Errors
    /// `Missing`, `Failed`.
    pub async fn read(&self, name: &str) -> Result<ObjectReader, ObjectsError> {
        let found = self.within(name, self.store.get(&self.path(name))).await?;
        Ok(ObjectReader { objects: self.clone(), name: name.to_owned(), pieces: found.into_stream() })
    }

    /// A large object in the making.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn write(&self, name: &str) -> Result<ObjectWriter, ObjectsError> {
        let upload = self.within(name, self.store.put_multipart(&self.path(name))).await?;
        Ok(ObjectWriter { objects: self.clone(), name: name.to_owned(), upload, part: BytesMut::new() })
    }
}

/// Reads an object.
pub struct ObjectReader {
    objects: Objects,
    name: String,
    pieces: BoxStream<'static, Answer<Bytes>>,
}

impl ObjectReader {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        let piece = async { self.pieces.next().await.transpose() };
        self.objects.within(&self.name, piece).await
    }
}

/// Writes an object in parts. It is not there before [`ObjectWriter::finish`]; [`ObjectWriter::give_up`] removes the parts.
pub struct ObjectWriter {
    objects: Objects,
    name: String,
    upload: Box<dyn MultipartUpload>,
    part: BytesMut,
}

impl ObjectWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), ObjectsError> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= BACKUP_PART_BYTES {
            let part = PutPayload::from(self.part.split().freeze());
            self.objects.within(&self.name, self.upload.put_part(part)).await?;
        }
        Ok(())
    }

    /// The object is complete.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn finish(mut self) -> Result<(), ObjectsError> {
        let end = async {
            if !self.part.is_empty() {
                self.upload.put_part(self.part.split().freeze().into()).await?;
            }
            self.upload.complete().await
        };
        let ended = self.objects.within(&self.name, end).await.map(drop);
        if ended.is_err() {
            self.give_up().await;
        }
        ended
    }

    /// There will be no such object. What cannot be removed the store's own rules remove.
    pub async fn give_up(mut self) {
        drop(self.objects.within(&self.name, self.upload.abort()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keeps_objects(objects: Objects) {
        objects.put("c/1/journal/b", Bytes::from_static(b"second")).await.unwrap();
        objects.put("c/1/journal/a", Bytes::from_static(b"first")).await.unwrap();
        let all = [("c/1/journal/a".to_owned(), 5), ("c/1/journal/b".to_owned(), 6)];
        assert_eq!(objects.list("c", None).await.unwrap(), all);
        assert_eq!(objects.list("c/1/journal", Some("c/1/journal/a")).await.unwrap(), all[1..]);
        assert_eq!(objects.directories("c").await.unwrap(), ["1"]);
        assert!(objects.directories("nowhere").await.unwrap().is_empty());
        assert_eq!(objects.get("c/1/journal/a", 5).await.unwrap(), "first");
        assert!(matches!(objects.get("c/1/journal/a", 4).await, Err(ObjectsError::Failed { .. })));
        assert!(matches!(objects.get("c/2", 4).await, Err(ObjectsError::Missing { .. })));
        assert_eq!(objects.beginning("c/1/journal/b", 3).await.unwrap(), "sec");
        assert!(objects.claim("c/2/origin", Bytes::from_static(b"me")).await.unwrap());
        assert!(!objects.claim("c/2/origin", Bytes::from_static(b"you")).await.unwrap());
        assert_eq!(objects.get("c/2/origin", 9).await.unwrap(), "me");
        let gone = ["c/1/journal/a", "c/1/journal/never", "c/1/journal/b"].map(str::to_owned);
        objects.remove(gone.to_vec()).await.unwrap();
        objects.remove(Vec::new()).await.unwrap();
        assert_eq!(objects.list("c", None).await.unwrap(), [("c/2/origin".to_owned(), 2)]);
    }

    async fn keeps_large_objects(objects: Objects) {
        let block: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
        let mut writer = objects.write("large").await.unwrap();
        for _ in 0..20 {
            writer.push(&block).await.unwrap();
        }
        assert!(objects.list("", None).await.unwrap().iter().all(|(name, _)| name != "large"));
        writer.finish().await.unwrap();
        let (mut reader, mut read) = (objects.read("large").await.unwrap(), Vec::new());
        while let Some(piece) = reader.next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == block.repeat(20));
        let writer = objects.write("never").await.unwrap();
        writer.give_up().await;
        assert!(matches!(objects.get("never", 1).await, Err(ObjectsError::Missing { .. })));
    }

    #[tokio::test]
    async fn a_directory_keeps_objects() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        keeps_objects(Objects::open(&url).unwrap()).await;
        keeps_large_objects(Objects::open(&url).unwrap()).await;
    }

    #[tokio::test]
    async fn memory_keeps_objects() {
        keeps_objects(Objects::in_memory()).await;
        keeps_large_objects(Objects::in_memory()).await;
    }

    #[test]
    fn destinations_that_make_no_sense_are_refused() {
        for url in ["", "/tmp", "file://tmp", "file:///no/such/directory", "ftp://x"] {
            let error = Objects::open(url).unwrap_err();
            assert!(matches!(error, ObjectsError::Destination { .. }), "{error}");
        }
        assert!(Objects::open("s3://bucket/prefix").is_ok());
    }
}
