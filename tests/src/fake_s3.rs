//! A store that speaks as much of S3 as backups use, on a socket of its own: objects, parts, pages of listings, conditions.
//!
//! It is strict where stores are: unsigned requests, unknown uploads and parts that were not sent are refused, and a page of a
//! listing is short, so that whoever does not ask for the next one misses objects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names in one page of a listing.
const PAGE: usize = 20;
/// The key that requests must be signed with.
const KEY: &str = "tester";

/// The store; its socket goes with the process.
pub struct FakeS3 {
    address: SocketAddr,
    bucket: String,
    shared: Arc<Shared>,
}

struct Shared {
    bucket: String,
    away: AtomicBool,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Vec<u8>>,
    /// Key and parts of each upload that is neither completed nor aborted.
    uploads: BTreeMap<u64, (String, BTreeMap<u32, Vec<u8>>)>,
    uploads_begun: u64,
    uploads_completed: u64,
    removed: u64,
}

struct Request {
    method: String,
    /// Decoded, without the leading slash.
    path: String,
    query: BTreeMap<String, String>,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Status, further headers, body.
type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl FakeS3 {
    /// Serves one bucket on loopback.
    pub fn start(bucket: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (away, contents) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { bucket: bucket.to_owned(), away, contents });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A connection that breaks is its client's to notice.
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Self { address, bucket: bucket.to_owned(), shared }
    }

    /// What a process needs in its environment to reach it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [
            ("AWS_ENDPOINT", &*endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "nowhere-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A URL below its bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }

    /// From now on every request is answered with 503, or none is.
    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Relaxed);
    }

    /// Names of all objects.
    pub fn names(&self) -> Vec<String> {
        self.shared.contents().objects.keys().cloned().collect()
    }

    /// Uploads in parts: begun, completed.
    pub fn uploads(&self) -> (u64, u64) {
        let contents = self.shared.contents();
        (contents.uploads_begun, contents.uploads_completed)
    }

    /// Objects that were removed.
    pub fn removed(&self) -> u64 {
        self.shared.contents().removed
    }
}

impl Shared {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        let (status, headers, body) = answer(shared, &request);
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        writer.write_all(&[head.as_bytes(), b"\r\n", &body].concat())?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (decoded(name), decoded(value))
    };
    let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    let path = decoded(path.trim_start_matches('/'));
    Ok(Some(Request { method, path, query, headers, body }))
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0) as u8;
        out.push(if byte == b'%' { digit() * 16 + digit() } else { byte });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn refusal(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    (status, vec![("Content-Type", "application/xml".to_owned())], body.into_bytes())
}

fn xml(body: String) -> Reply {
    (200, vec![("Content-Type", "application/xml".to_owned())], body.into_bytes())
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{:08x}\"", crc32fast::hash(bytes))
}

fn answer(shared: &Shared, request: &Request) -> Reply {
    let signed = format!("AWS4-HMAC-SHA256 Credential={KEY}/");
    if shared.away.load(Ordering::Relaxed) {
        return refusal(503, "SlowDown");
    }
    if !request.headers.get("authorization").is_some_and(|text| text.starts_with(&signed)) {
        return refusal(403, "AccessDenied");
    }
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    if bucket != shared.bucket {
        return refusal(404, "NoSuchBucket");
    }
    let contents = &mut *shared.contents();
    let upload = request.query.get("uploadId").map(|id| id.parse().unwrap_or(0));
    match (&*request.method, key, upload) {
        ("GET", "", _) => listing(contents, &request.query),
        ("POST", "", _) => remove(contents, &request.body),
        ("GET", ..) => get(contents, key, request.headers.get("range")),
        ("PUT", _, Some(upload)) => put_part(contents, upload, request),
        ("PUT", ..) => {
            if request.headers.contains_key("if-none-match") && contents.objects.contains_key(key) {
                return refusal(412, "PreconditionFailed");
            }
            contents.objects.insert(key.to_owned(), request.body.clone());
            (200, vec![("ETag", etag(&request.body))], Vec::new())
        }
        ("POST", _, None) => {
            contents.uploads_begun += 1;
            let id = contents.uploads_begun;
            contents.uploads.insert(id, (key.to_owned(), BTreeMap::new()));
            xml(format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        ("POST", _, Some(upload)) => complete(contents, upload, request),
        ("DELETE", _, Some(upload)) => {
            contents.uploads.remove(&upload);
            (204, Vec::new(), Vec::new())
        }
        _ => refusal(501, "NotImplemented"),
    }
}

fn get(contents: &Contents, key: &str, range: Option<&String>) -> Reply {
    let Some(bytes) = contents.objects.get(key) else { return refusal(404, "NoSuchKey") };
    let mut headers =
        vec![("ETag", etag(bytes)), ("Last-Modified", "Sat, 21 Nov 2026 21:30:39 GMT".to_owned())];
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return (200, headers, bytes.clone());
    };
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().unwrap_or(usize::MAX).min(bytes.len().saturating_sub(1));
    if from >= bytes.len() {
        return refusal(416, "InvalidRange");
    }
    headers.push(("Content-Range", format!("bytes {from}-{to}/{}", bytes.len())));
    (206, headers, bytes[from..=to].to_vec())
}

fn put_part(contents: &mut Contents, upload: u64, request: &Request) -> Reply {
    let number = request.query.get("partNumber").and_then(|text| text.parse().ok());
    match (contents.uploads.get_mut(&upload), number) {
        (Some((_, parts)), Some(number)) => {
            parts.insert(number, request.body.clone());
            (200, vec![("ETag", etag(&request.body))], Vec::new())
        }
        _ => refusal(404, "NoSuchUpload"),
    }
}

fn complete(contents: &mut Contents, upload: u64, request: &Request) -> Reply {
    let Some((key, parts)) = contents.uploads.remove(&upload) else { return refusal(404, "NoSuchUpload") };
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let named: Vec<u32> = tags(&text, "PartNumber").iter().filter_map(|number| number.parse().ok()).collect();
    if !named.iter().eq(parts.keys()) || parts.is_empty() {
        return refusal(400, "InvalidPart");
    }
    let bytes: Vec<u8> = parts.into_values().flatten().collect();
    let tag = etag(&bytes);
    contents.objects.insert(key, bytes);
    contents.uploads_completed += 1;
    xml(format!(
        "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
        tag.replace('"', "&quot;")
    ))
}

fn tags(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inner = |rest: &str| rest.split_once(&close).map(|(inner, _)| inner.to_owned());
    text.split(&open).skip(1).filter_map(inner).collect()
}

fn remove(contents: &mut Contents, body: &[u8]) -> Reply {
    let keys = tags(&String::from_utf8_lossy(body), "Key");
    contents.removed += keys.iter().filter(|key| contents.objects.remove(*key).is_some()).count() as u64;
    let deleted: Vec<String> =
        keys.iter().map(|key| format!("<Deleted><Key>{key}</Key></Deleted>")).collect();
    xml(format!("<DeleteResult>{}</DeleteResult>", deleted.concat()))
}

fn listing(contents: &Contents, query: &BTreeMap<String, String>) -> Reply {
    let of = |name: &str| query.get(name).map_or("", |text| text);
    let prefix = of("prefix");
    let after = of("start-after").max(of("continuation-token"));
    let below = |key: &&String| key.starts_with(prefix) && key.as_str() > after;
    let mut rows: Vec<(String, Option<usize>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for key in contents.objects.keys().filter(below) {
        match key[prefix.len()..].find('/').filter(|_| !of("delimiter").is_empty()) {
            // The token stands behind everything below it.
            Some(end) => {
                let common = &key[..=prefix.len() + end];
                if after.starts_with(common) || !seen.insert(common.to_owned()) {
                    continue;
                }
                rows.push((common.to_owned(), None));
            }
            None => rows.push((key.clone(), Some(contents.objects[key].len()))),
        }
    }
    let next = rows.get(PAGE).map(|_| rows[PAGE - 1].0.clone());
    rows.truncate(PAGE);
    let rows: Vec<String> = rows
        .iter()
        .map(|(name, size)| match size {
            Some(size) => format!(
                "<Contents><Key>{name}</Key><LastModified>2026-11-21T21:30:39.000Z</LastModified><Size>{size}</Size></Contents>"
            ),
            None => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
        })
        .collect();
    let next = next.map_or_else(String::new, |token| {
        let token = if token.ends_with('/') { format!("{token}~") } else { token };
        format!("<NextContinuationToken>{token}</NextContinuationToken>")
    });
    xml(format!("<ListBucketResult>{}{next}</ListBucketResult>", rows.concat()))
}
