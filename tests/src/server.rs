//! A real `switchback-server` process.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::programs::program;

/// A running server, killed when dropped. Its data folder outlives a kill.
pub struct Server {
    data: TempDir,
    child: Child,
    url: String,
    words: Vec<String>,
}

impl Server {
    /// Starts a server on an empty data folder. Vehicles are told to poll every second.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Server::start`], with more words on its command line.
    pub fn start_with(words: &[&str]) -> Self {
        let (data, words) = (TempDir::new().unwrap(), words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let (child, url) = launch(data.path(), "127.0.0.1:0", &words);
        Self { data, child, url, words }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file with the control plane's token.
    pub fn token_file(&self) -> PathBuf {
        self.data.path().join("admin.token")
    }

    /// The folder that holds everything the server knows.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Where the bytes of a target lie, by the end of its name.
    pub fn stored(&self, name: &str) -> PathBuf {
        let mut folders = vec![self.data().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(name) {
                    return path;
                }
            }
        }
        panic!("the server keeps no {name}");
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Power loss as far as a process can tell: SIGKILL, no chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same data and the same port.
    pub fn restart(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        let (child, url) = launch(self.data.path(), &address, &self.words);
        (self.child, self.url) = (child, url);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(data: &Path, listen: &str, words: &[String]) -> (Child, String) {
    let mut child = Command::new(program("switchback-server"))
        .args(["serve", "--poll-after-s", "1", "--listen", listen, "--data-dir"])
        .arg(data)
        .args(words)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the server said {line:?}"));
    (child, url.to_owned())
}
