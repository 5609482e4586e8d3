//! A server of a few lines: it remembers what it was sent, and answers what it was told to. (The real one meets the program in the
//! workspace's scenarios.)

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    files: BTreeMap<String, Vec<u8>>,
    answers: BTreeMap<String, (u16, String)>,
    /// Path whose next PUT fails.
    fails_once: Option<String>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // One request a connection, and one that says "end" ends the thread.
                if !serve(stream.unwrap(), &shared) {
                    break;
                }
            }
        });
        Self { url, state, thread: Some(thread) }
    }

    /// From now on answers `METHOD PATH` so.
    pub(crate) fn answer(&self, request: &str, status: u16, body: &str) {
        self.state.lock().unwrap().answers.insert(request.into(), (status, body.into()));
    }

    /// The next PUT of a path that ends so fails.
    pub(crate) fn fail_once(&self, path: &str) {
        self.state.lock().unwrap().fails_once = Some(path.into());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Takes the paths of the PUTs since the last call.
    pub(crate) fn take_puts(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.state.lock().unwrap().seen);
        seen.into_iter().filter(|seen| seen.method == "PUT").map(|seen| seen.path).collect()
    }

    /// Forgets a file.
    pub(crate) fn lose(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().files.get(path).cloned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let address = self.url.trim_start_matches("http://");
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(b"END / HTTP/1.1\r\n\r\n");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> bool {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut token) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    if method == "END" {
        return false;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut state = state.lock().unwrap();
    let (status, answer) = respond(&mut state, &method, &path, &body);
    state.seen.push(Seen { method: method.clone(), path, token, body });
    let length = answer.len();
    let head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let mut stream = reader.into_inner();
    stream.write_all(head.as_bytes()).unwrap();
    if method != "HEAD" {
        stream.write_all(&answer).unwrap();
    }
    true
}

fn respond(state: &mut State, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    if let Some((status, answer)) = state.answers.get(&format!("{method} {path}")) {
        return (*status, answer.clone().into_bytes());
    }
    match method {
        "PUT" if state.fails_once.as_ref().is_some_and(|fails| path.ends_with(fails.as_str())) => {
            state.fails_once = None;
            (500, Vec::new())
        }
        "PUT" => {
            let file = path.split_once('?').map_or(path, |(file, _)| file);
            state.files.insert(file.into(), body.to_vec());
            (200, b"{}".to_vec())
        }
        "GET" | "HEAD" => match state.files.get(path) {
            Some(bytes) => (200, bytes.clone()),
            None => (404, br#"{"detail": "there is no such file"}"#.to_vec()),
        },
        _ => (404, br#"{"detail": "there is nothing there"}"#.to_vec()),
    }
}
