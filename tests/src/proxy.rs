//! A network that misbehaves: an HTTP proxy in front of a real server that loses, cuts, delays and alters answers on command.
//!
//! One request per connection, so that a test can say exactly what happens to which request.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// A request as a rule sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Path.
    pub path: String,
    /// What comes after a question mark; empty for nothing.
    pub query: String,
    /// First byte of a `Range: bytes=N-` header.
    pub range_from: Option<u64>,
    /// Last byte of a `Range: bytes=N-M` header.
    pub range_last: Option<u64>,
    /// Number of earlier requests with the same method and path.
    pub repeat: usize,
    /// What was sent along: a vehicle's report, an enrollment.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether a vehicle reports to the server.
    pub fn is_report(&self) -> bool {
        self.method == "PUT" && self.path.ends_with("/manifest")
    }
}

/// What happens to the answer of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It passes as it is.
    Pass,
    /// The connection is closed without an answer.
    Refuse,
    /// The body ends after so many bytes, although its announced length is longer.
    CutBody(usize),
    /// After so many bytes of the body nothing comes any more, and the connection stays until the client gives it up.
    Hang(usize),
    /// One bit of the body byte at this offset is flipped.
    FlipBit(usize),
    /// Another answer is given: status line code and body.
    Answer(u16, Vec<u8>),
}

type Rule = Box<dyn FnMut(&Request) -> Fate + Send>;
/// What passed, one entry for each direction of a connection; nothing while nobody listens.
type Overheard = Arc<Mutex<Option<Vec<Vec<u8>>>>>;
type Bodies = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Longest body that is kept for a replay: metadata, not bundles.
const SMALL: usize = 64 << 10;

/// The proxy; it stops when it is dropped.
pub struct Proxy {
    url: String,
    rule: Arc<Mutex<Rule>>,
    log: Arc<Mutex<Vec<Request>>>,
    small_bodies: Bodies,
    body_bytes: Arc<AtomicUsize>,
    overheard: Overheard,
    hangs: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream` (`http://127.0.0.1:PORT`) that lets everything pass.
    pub fn start(upstream: &str) -> std::io::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", socket.local_addr()?);
        let shared = Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            rule: Arc::new(Mutex::new(Box::new(|_| Fate::Pass))),
            log: Arc::default(),
            small_bodies: Arc::default(),
            body_bytes: Arc::default(),
            overheard: Arc::default(),
            hangs: Arc::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (rule, log, body_bytes) = (shared.rule.clone(), shared.log.clone(), shared.body_bytes.clone());
        let (small_bodies, overheard, hangs) = (shared.small_bodies.clone(), shared.overheard.clone(), shared.hangs.clone());
        let stopped = stop.clone();
        let listener = std::thread::spawn(move || {
            for connection in socket.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A broken connection is what this thread is for; there is nobody to tell.
                std::thread::spawn(move || connection.map(|stream| shared.serve(stream)));
            }
        });
        Ok(Self { url, rule, log, small_bodies, body_bytes, overheard, hangs, stop, listener: Some(listener) })
    }

    /// Where vehicles find the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Replaces what happens to the answers from now on.
    pub fn set_rule(&self, rule: impl FnMut(&Request) -> Fate + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// The last answer that passed for a path, to be given again later: what an attacker on the network can always do.
    pub fn recorded(&self, path: &str) -> Vec<u8> {
        self.small_bodies.lock().unwrap().get(path).unwrap_or_else(|| panic!("nothing was recorded for {path}")).clone()
    }

    /// Keeps from now on every byte that passes.
    pub fn eavesdrop(&self) {
        self.overheard.lock().unwrap().get_or_insert_default();
    }

    /// What passed since [`Self::eavesdrop`], of each connection what was asked and what was answered.
    pub fn overheard(&self) -> Vec<Vec<u8>> {
        self.overheard.lock().unwrap().clone().unwrap_or_default()
    }

    /// Connections so far on which nothing comes any more, and everything that came was read.
    pub fn hangs(&self) -> usize {
        self.hangs.load(Ordering::SeqCst)
    }

    /// Bytes of answer bodies that were passed on so far.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, so that the thread can be joined.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

#[derive(Clone)]
struct Shared {
    upstream: String,
    rule: Arc<Mutex<Rule>>,
    log: Arc<Mutex<Vec<Request>>>,
    small_bodies: Bodies,
    body_bytes: Arc<AtomicUsize>,
    overheard: Overheard,
    hangs: Arc<AtomicUsize>,
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let head = read_head(&mut reader)?;
        let mut body = vec![0; header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let Some(request) = self.note(&head, body) else { return Ok(()) };

        let fate = (self.rule.lock().unwrap())(&request);
        match fate {
            Fate::Refuse => client.shutdown(Shutdown::Both),
            Fate::Answer(code, body) => {
                write!(client, "HTTP/1.1 {code} Ordered\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
                client.write_all(&body)
            }
            Fate::Pass | Fate::CutBody(_) | Fate::Hang(_) | Fate::FlipBit(_) => {
                let mut heard = Vec::new();
                let passed = self.forward(&request.path, &[head.as_bytes(), &request.body], &fate, &mut client, &mut heard);
                if let Some(overheard) = &mut *self.overheard.lock().unwrap() {
                    overheard.extend([[head.as_bytes(), &request.body].concat(), heard]);
                }
                passed
            }
        }
    }

    /// Says so as soon as the client has read everything, and waits until it is gone.
    fn hang(&self, client: &mut TcpStream) {
        while let Ok(peer) = client.peer_addr()
            && has_unread(peer)
        {
            std::thread::yield_now();
        }
        self.hangs.fetch_add(1, Ordering::SeqCst);
        // Ends when the client closes or is killed.
        let _ = client.read(&mut [0]);
    }

    fn note(&self, head: &str, body: Vec<u8>) -> Option<Request> {
        let mut words = head.lines().next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let range = header(head, "range").and_then(|value| value.strip_prefix("bytes=")?.split_once('-'));
        let (range_from, range_last) = range.map_or((None, None), |(from, last)| (from.parse().ok(), last.parse().ok()));
        let mut log = self.log.lock().unwrap();
        let repeat = log.iter().filter(|earlier| earlier.method == method && earlier.path == path).count();
        let request = Request { method, path, query, range_from, range_last, repeat, body };
        log.push(request.clone());
        Some(request)
    }

    fn forward(&self, path: &str, request: &[&[u8]; 2], fate: &Fate, client: &mut TcpStream, heard: &mut Vec<u8>) -> std::io::Result<()> {
        let listens = self.overheard.lock().unwrap().is_some();
        let mut server = TcpStream::connect(&self.upstream)?;
        server.write_all(close_after(&String::from_utf8_lossy(request[0])).as_bytes())?;
        server.write_all(request[1])?;
        let mut reader = BufReader::new(server);
        let answer = read_head(&mut reader)?;
        client.write_all(close_after(&answer).as_bytes())?;
        heard.extend(answer.bytes().filter(|_| listens));
        let (mut sent, mut kept, mut buffer) = (0usize, Vec::new(), [0; 16 << 10]);
        loop {
            let mut count = reader.read(&mut buffer)?;
            if count == 0 {
                if answer.starts_with("HTTP/1.1 200") {
                    self.small_bodies.lock().unwrap().insert(path.to_owned(), kept);
                }
                return Ok(());
            }
            let mut cut = false;
            match *fate {
                Fate::CutBody(end) | Fate::Hang(end) if sent + count >= end => (count, cut) = (end - sent, true),
                Fate::FlipBit(at) if (sent..sent + count).contains(&at) => buffer[at - sent] ^= 1,
                _ => {}
            }
            if listens {
                heard.extend_from_slice(&buffer[..count]);
            }
            client.write_all(&buffer[..count])?;
            self.body_bytes.fetch_add(count, Ordering::SeqCst);
            if sent + count <= SMALL {
                kept.extend_from_slice(&buffer[..count]);
            }
            sent += count;
            if cut {
                if matches!(fate, Fate::Hang(_)) {
                    self.hang(client);
                }
                return client.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Whether bytes wait in the kernel for the program that owns this end of a connection (`proc_pid_net(5)`).
fn has_unread(owner: SocketAddr) -> bool {
    let SocketAddr::V4(owner) = owner else { return false };
    let place = format!("{:08X}:{:04X}", u32::from_ne_bytes(owner.ip().octets()), owner.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row.get(1) == Some(&place.as_str()));
    row.and_then(|row| row.get(4)?.split_once(':').map(|(_, unread)| unread.chars().any(|digit| digit != '0'))).unwrap_or(false)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn close_after(head: &str) -> String {
    let kept: Vec<&str> = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n"))
}
