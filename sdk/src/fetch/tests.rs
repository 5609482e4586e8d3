#![allow(clippy::unwrap_used, clippy::expect_used)]

//! The client against a small real server on the loopback interface that truncates, lies, drips and falls silent.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    num::NonZeroU64,
    ops::Range,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use switchback_signing::{
    digest::Sha256Digest,
    keys::{
        Ed25519Signer, PublicKey, Signature, Signer, SignerError,
        http::{self, Headers, Request},
    },
    time::UnixTime,
};

use super::*;

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// One thing that the server does with a connection.
enum Act {
    Send(Vec<u8>),
    /// Keeps the connection open and says nothing until the client is gone.
    FallSilent,
    /// Sends a byte again and again until the client is gone.
    Drip,
}

struct Server {
    base: BaseUrl,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each connection's one request by the script.
    fn start(script: impl Fn(&Seen) -> Vec<Act> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = mpsc::channel();
        let log = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.try_recv().is_ok() {
                    return;
                }
                // A client that gives up is part of the tests.
                let _ = serve(stream.unwrap(), &script, &log);
            }
        });
        Self { base, seen, stop, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        self.client_with(Patience::default())
    }

    fn client_with(&self, patience: Patience) -> Client {
        let transport = HttpTransport::new(&[&self.base], None, patience).unwrap();
        Client::new(self.base.clone(), Arc::new(transport), Cancel::default(), patience)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send(()).unwrap();
        let address = self.base.to_string().replace("http://", "");
        // Wakes the accept loop.
        drop(TcpStream::connect(address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: TcpStream, script: &impl Fn(&Seen) -> Vec<Act>, log: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut seen =
        Seen { method: first.next().unwrap().into(), target: first.next().unwrap().into(), headers, body: bytes[head_end + 4..].to_vec() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while seen.body.len() < length {
        let count = stream.read(&mut piece)?;
        seen.body.extend_from_slice(&piece[..count]);
    }
    log.lock().unwrap().push(seen.clone());
    for act in script(&seen) {
        match act {
            Act::Send(bytes) => stream.write_all(&bytes)?,
            Act::FallSilent => {
                // Returns when the client closes the connection.
                let _ = stream.read(&mut piece)?;
            }
            Act::Drip => loop {
                stream.write_all(b"x")?;
                stream.flush()?;
                std::thread::yield_now();
            },
        }
    }
    Ok(())
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<Act> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    vec![Act::Send([head.as_bytes(), body].concat())]
}

fn ok(body: &[u8]) -> Vec<Act> {
    answer("200 OK", &format!("content-length: {}\r\n", body.len()), body)
}

fn get(client: &Client) -> Result<Vec<u8>, FetchError> {
    match client.get("/file", 100, None, None)? {
        Fetched::New { bytes, .. } => Ok(bytes),
        Fetched::NotModified => panic!("not asked for"),
    }
}

/// What the client makes of a script.
fn check(script: impl Fn(&Seen) -> Vec<Act> + Send + 'static, expected: Result<&str, (&str, &str)>) {
    let server = Server::start(script);
    let found = get(&server.client());
    match (found, expected) {
        (Ok(bytes), Ok(expected)) => assert_eq!(String::from_utf8(bytes).unwrap(), expected),
        (Err(error), Err((name, text))) => {
            assert_eq!(error.name(), name);
            assert_eq!(error.to_string().replace(&server.base.to_string(), "SERVER"), text);
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

#[test]
fn a_file_is_fetched() {
    check(|_| ok(b"hello"), Ok("hello"));
    check(|_| answer("200 OK", "transfer-encoding: chunked\r\n", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), Ok("abcde"));
}

#[test]
fn an_answer_has_a_length_that_it_may_not_exceed() {
    let error = Err(("answer_too_long", "SERVER/file sends more than 100 bytes"));
    check(|_| ok(&[b'x'; 101]), error);
    check(|_| answer("200 OK", "", &[b'x'; 101]), error);
    check(|_| answer("200 OK", "content-length: 99999999999\r\n", b""), error);
    check(|_| vec![Act::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Act::Drip], error);
}

#[test]
fn an_answer_that_ends_early_is_noticed() {
    let server = Server::start(|_| answer("200 OK", "content-length: 50\r\n", b"hello"));
    assert!(matches!(get(&server.client()), Err(FetchError::Unreachable { .. } | FetchError::TooShort { .. })));
}

#[test]
fn each_status_has_its_meaning() {
    check(|_| answer("404 Not Found", "content-length: 0\r\n", b""), Err(("not_found", "SERVER/file does not exist")));
    check(|_| answer("403 Forbidden", "content-length: 0\r\n", b""), Err(("not_found", "SERVER/file does not exist")));
    check(|_| answer("503 Busy", "retry-after: 7\r\ncontent-length: 0\r\n", b""), Err(("server_busy", "SERVER/file is busy (status 503)")));
    check(|_| answer("500 Oops", "content-length: 0\r\n", b""), Err(("server_failed", "SERVER/file failed (status 500)")));
    check(
        |_| answer("409 No", "", br#"{"type":"urn:x","title":"Conflict","status":409,"detail":"counter 3\nwas seen"}"#),
        Err(("request_refused", "SERVER/file refuses (status 409): counter 3was seen")),
    );
    check(|_| answer("400 No", "", b"plain"), Err(("request_refused", "SERVER/file refuses (status 400): plain")));
    let server = Server::start(|_| answer("429 Later", "retry-after: 9\r\ncontent-length: 0\r\n", b""));
    assert_eq!(get(&server.client()).unwrap_err().retry_after(), Some(Duration::from_secs(9)));
}

#[test]
fn redirects_are_followed_on_the_same_server_only_and_not_for_ever() {
    let moved = |to: &str| answer("302 Found", &format!("location: {to}\r\ncontent-length: 0\r\n"), b"");
    check(move |seen| if seen.target == "/file" { moved("/other") } else { ok(b"there") }, Ok("there"));
    check(
        move |_| moved("http://evil.example/file"),
        Err(("redirect_refused", "SERVER/file points to http://evil.example/file, which is not followed")),
    );
    check(
        move |_| moved("//evil.example/file"),
        Err(("redirect_refused", "SERVER/file points to //evil.example/file, which is not followed")),
    );
    check(move |_| moved("/file"), Err(("redirect_refused", "SERVER/file points to yet another address after 2, which is not followed")));
}

#[test]
fn a_signed_request_is_never_redirected() {
    let server = Server::start(|_| answer("307 Moved", "location: /other\r\ncontent-length: 0\r\n", b""));
    let signer = Ed25519Signer::from_seed([1; 32]);
    let key = RequestKey { signer: &signer, now: UnixTime::from_seconds(1_800_000_000) };
    let error = server.client().get("/file", 10, Some(key), None).unwrap_err();
    assert_eq!(error.name(), "redirect_refused");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn silence_ends_a_request() {
    let patience = Patience { stall: Duration::from_millis(50), ..Patience::default() };
    for script in
        [|| vec![Act::FallSilent], || vec![Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec()), Act::FallSilent]]
    {
        let server = Server::start(move |_| script());
        let error = get(&server.client_with(patience)).unwrap_err();
        assert_eq!(error.name(), "server_silent", "{error}");
    }
}

#[test]
fn an_answer_that_only_drips_is_given_up() {
    let patience = Patience { slow_window: Duration::from_millis(50), slow_bytes_min: u64::MAX, ..Patience::default() };
    let server = Server::start(|_| vec![Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec()), Act::Drip]);
    let error = server.client_with(patience).get("/file", u64::MAX, None, None).unwrap_err();
    assert_eq!(error.name(), "slow_retrieval", "{error}");
}

#[test]
fn a_wait_ends_at_once_when_the_vehicle_is_closed() {
    let server = Server::start(|_| vec![Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec()), Act::FallSilent]);
    let client = server.client();
    let cancel = client.cancel.clone();
    let seen = Arc::clone(&server.seen);
    let closer = std::thread::spawn(move || {
        while seen.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
    });
    assert_eq!(get(&client).unwrap_err().name(), "canceled");
    closer.join().unwrap();
    assert_eq!(get(&client).unwrap_err().name(), "canceled", "and from then on");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base: BaseUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let transport = HttpTransport::new(&[&base], None, Patience::default()).unwrap();
    let client = Client::new(base.clone(), Arc::new(transport), Cancel::default(), Patience::default());
    let error = get(&client).unwrap_err();
    assert_eq!(error.name(), "server_unreachable");
    assert!(error.to_string().starts_with(&format!("{base}/file cannot be reached: Connection refused")), "{error}");
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let server = Server::start(|seen| match seen.header("if-none-match") {
        Some("\"v1\"") => answer("304 Not Modified", "", b""),
        _ => answer("200 OK", "etag: \"v1\"\r\ncontent-length: 2\r\n", b"hi"),
    });
    let client = server.client();
    let Fetched::New { bytes, etag } = client.get("/file", 10, None, None).unwrap() else { panic!("new") };
    assert_eq!((bytes.as_slice(), etag.as_deref()), (&b"hi"[..], Some("\"v1\"")));
    assert_eq!(client.get("/file", 10, None, etag.as_deref()).unwrap(), Fetched::NotModified);
}

#[test]
fn a_report_is_signed_with_the_vehicles_key() {
    let server = Server::start(|_| ok(b"{}"));
    let signer = Ed25519Signer::from_seed([7; 32]);
    let now = UnixTime::from_seconds(1_800_000_000);
    let content = ("application/json", &b"{\"a\":1}"[..]);
    let answer = server.client().submit(Method::Put, "/report?x=1", content, 10, Some(RequestKey { signer: &signer, now })).unwrap();
    assert_eq!((answer.status, answer.bytes.as_slice()), (200, &b"{}"[..]));
    let seen = server.seen().remove(0);
    assert_eq!(seen.body, content.1);
    let request = Request { method: &seen.method, target: &seen.target, body: Some(Sha256Digest::of(&seen.body)) };
    let headers = Headers {
        signature_input: seen.header(http::SIGNATURE_INPUT).unwrap().into(),
        signature: seen.header(http::SIGNATURE).unwrap().into(),
        content_digest: seen.header(http::CONTENT_DIGEST).map(str::to_owned),
    };
    http::verify_request(&signer.public_key(), &request, &headers, now).unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/report?x=1"));
}

const FILE: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A server that knows ranges, as RFC 9110 says.
fn ranged(seen: &Seen) -> Vec<Act> {
    let (start, last) = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap();
    let (start, last): (usize, usize) = (start.parse().unwrap(), last.parse().unwrap_or(FILE.len() - 1));
    let headers = format!("etag: \"v1\"\r\ncontent-range: bytes {start}-{last}/{}\r\ncontent-length: {}\r\n", FILE.len(), last + 1 - start);
    answer("206 Partial Content", &headers, &FILE[start..=last])
}

fn download(server: &Server, offset: u64, etag: Option<&str>) -> Result<Vec<u8>, FetchError> {
    download_part(server, offset..FILE.len() as u64, etag)
}

fn download_part(server: &Server, range: Range<u64>, etag: Option<&str>) -> Result<Vec<u8>, FetchError> {
    let request = DownloadRequest { path: "/bundle", length: FILE.len() as u64, range: range.clone(), etag };
    let mut download = server.client().download(&request)?;
    assert!(download.covers(&range));
    let mut bytes = vec![0; (range.end - range.start) as usize];
    for piece in bytes.chunks_mut(7) {
        download.read_exact(piece)?;
    }
    // Of a server that sends the whole file although a part was asked for, the rest is left.
    if !download.covers(&(range.end..range.end + 1)) {
        download.finish()?;
    }
    Ok(bytes)
}

#[test]
fn a_server_that_calls_the_same_file_otherwise_is_asked_again_without_its_name() {
    let server = Server::start(|seen| match seen.header("if-range") {
        None | Some("\"v1\"") => ranged(seen),
        Some(_) => ok(FILE),
    });
    assert_eq!(download(&server, 30, Some("\"of-another-replica\"")).unwrap(), &FILE[30..]);
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.header("if-range").map(str::to_owned)).collect();
    assert_eq!(asked, [Some("\"of-another-replica\"".to_owned()), None]);
}

#[test]
fn what_is_limited_comes_whole_and_no_faster_than_it_may() {
    let content = vec![7; 60_000];
    let sent = content.clone();
    let server = Server::start(move |_| ok(&sent));
    let traffic = Arc::new(Traffic::new(NonZeroU64::new(200_000)));
    let client = server.client().with_traffic(Arc::clone(&traffic));
    let started = std::time::Instant::now();
    for _ in 0..2 {
        let Fetched::New { bytes, .. } = client.get("/file", 60_000, None, None).unwrap() else { panic!("it is new") };
        assert_eq!(bytes, content);
    }
    // A quarter of a second's bytes come at once; the other 70,000 take a third of a second at least.
    assert!(started.elapsed() >= Duration::from_millis(345), "{:?}", started.elapsed());
    assert_eq!(traffic.received(), 120_000);
}

#[test]
fn a_part_is_asked_for_and_nothing_behind_it() {
    let server = Server::start(ranged);
    for (start, end) in [(0, 1), (0, 35), (5, 12), (35, 36)] {
        assert_eq!(download_part(&server, start as u64..end as u64, None).unwrap(), &FILE[start..end], "{start}..{end}");
    }
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.header("range").unwrap().to_owned()).collect();
    assert_eq!(asked, ["bytes=0-0", "bytes=0-34", "bytes=5-11", "bytes=35-"]);
    let whole = Server::start(|_| ok(FILE));
    assert_eq!(download_part(&whole, 5..12, None).unwrap(), &FILE[5..12]);
    let request = DownloadRequest { path: "/bundle", length: FILE.len() as u64, range: 2..8, etag: None };
    let mut download = server.client().download(&request).unwrap();
    download.skip_to(6).unwrap();
    assert!(download.covers(&(6..8)) && !download.covers(&(5..8)) && !download.covers(&(6..9)));
    let mut rest = [0; 2];
    download.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"67");
}

#[test]
fn resuming_at_any_offset_gives_the_rest_of_the_file() {
    let server = Server::start(ranged);
    for offset in 0..FILE.len() {
        assert_eq!(download(&server, offset as u64, Some("\"v1\"")).unwrap(), &FILE[offset..], "{offset}");
    }
    assert_eq!(server.seen()[3].header("if-range"), Some("\"v1\""));
    download(&server, 3, Some("W/\"weak\"")).unwrap();
    assert_eq!(server.seen().last().unwrap().header("if-range"), None);
}

#[test]
fn a_server_without_ranges_costs_traffic_and_not_correctness() {
    let server = Server::start(|_| ok(FILE));
    for offset in 0..FILE.len() {
        assert_eq!(download(&server, offset as u64, None).unwrap(), &FILE[offset..], "{offset}");
    }
}

#[test]
fn a_server_that_lies_about_the_range_is_not_believed() {
    for (status, headers) in [
        ("206 Partial Content", "content-range: bytes 0-35/36\r\ncontent-length: 36\r\n"),
        ("206 Partial Content", "content-range: bytes 5-35/37\r\ncontent-length: 31\r\n"),
        ("206 Partial Content", "content-range: bytes 5-34/36\r\ncontent-length: 30\r\n"),
        ("206 Partial Content", "content-range: bytes 5-35/*\r\ncontent-length: 31\r\n"),
        ("206 Partial Content", "content-length: 31\r\n"),
        ("206 Partial Content", "content-range: bytes 5-35/36\r\ncontent-length: 30\r\n"),
        ("200 OK", "content-length: 35\r\n"),
        ("204 No Content", ""),
        ("416 Range Not Satisfiable", "content-range: bytes */12\r\ncontent-length: 0\r\n"),
    ] {
        let server = Server::start(move |_| answer(status, headers, FILE));
        let error = download(&server, 5, None).unwrap_err();
        assert_eq!(error.name(), "wrong_range", "{status} {headers}: {error}");
    }
}

#[test]
fn a_download_that_is_too_short_or_too_long_is_noticed() {
    let chunked = |body: &[u8]| {
        let body = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        answer("200 OK", "transfer-encoding: chunked\r\n", &body)
    };
    let server = Server::start(move |_| chunked(&FILE[..30]));
    let error = download(&server, 5, None).unwrap_err();
    assert!(error.to_string().ends_with("/bundle ended after 30 of 36 bytes"), "{error}");
    let server = Server::start(move |_| chunked(&[FILE, b"!"].concat()));
    let error = download(&server, 5, None).unwrap_err();
    assert!(error.to_string().ends_with("/bundle sends more than 36 bytes"), "{error}");
}

#[test]
fn certificates_that_are_none_are_refused_before_anything_is_sent() {
    let base: BaseUrl = "https://ota.example".parse().unwrap();
    for pem in [&b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"[..], b"no certificate at all", b""] {
        let error = HttpTransport::new(&[&base], Some(pem), Patience::default()).unwrap_err();
        assert_eq!((error.number(), error.name()), (412, "tls"), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("TLS cannot be set up: ")
                && text.ends_with("; check the given certificates, or without any those of the system"),
            "{text}"
        );
    }
}

#[test]
fn a_request_that_the_key_does_not_sign_is_not_sent() {
    struct Removed(Ed25519Signer);
    impl Signer for Removed {
        fn public_key(&self) -> PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _: &[u8]) -> Result<Signature, SignerError> {
            Err(SignerError { key_id: self.key_id(), reason: "the token was removed".into() })
        }
    }
    let server = Server::start(|_| ok(b"{}"));
    let signer = Removed(Ed25519Signer::from_seed([7; 32]));
    let key = RequestKey { signer: &signer, now: UnixTime::from_seconds(1_800_000_000) };
    let error = server.client().get("/file", 10, Some(key), None).unwrap_err();
    assert_eq!((error.number(), error.name()), (413, "request_not_signed"));
    let expected =
        format!("the vehicle's key does not sign the request to {}; check the token or service that holds it", server.base.join("/file"));
    assert_eq!(error.to_string(), expected);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("the token was removed"));
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn each_error_has_a_number_of_its_own() {
    let url = || "u".to_owned();
    let errors = [
        FetchError::Unreachable { url: url(), reason: url() },
        FetchError::Stalled { url: url(), silence: Duration::ZERO },
        FetchError::TooSlow { url: url(), bytes: 0, bytes_min: 0, window: Duration::ZERO },
        FetchError::TooLong { url: url(), length_max: 0 },
        FetchError::TooShort { url: url(), expected: 0, found: 0 },
        FetchError::WrongRange { url: url(), offset: 0, length: 0, found: url() },
        FetchError::RedirectRefused { url: url(), location: url() },
        FetchError::NotFound { url: url() },
        FetchError::Busy { url: url(), status: 0, retry_after: None },
        FetchError::Refused { url: url(), status: 0, text: url() },
        FetchError::ServerFailed { url: url(), status: 0 },
        FetchError::Url { url: url() },
        FetchError::Tls { reason: url() },
        FetchError::Canceled,
    ];
    let numbers: std::collections::BTreeSet<u32> = errors.iter().map(FetchError::number).collect();
    assert_eq!(numbers.len(), errors.len());
    assert!(numbers.iter().all(|number| (400..500).contains(number)));
}
