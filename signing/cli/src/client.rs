//! The control plane of the server over HTTP.

use std::{error::Error, net::IpAddr, path::PathBuf, sync::Once, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{
    Method, StatusCode, Url,
    blocking::{self, Body, RequestBuilder, Response},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    failure::{Hint, failure},
    files,
};

/// Longest time for the answer to a request that moves no bundle.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest time for a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest token file, bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// What to do when the token is not there or not the right one.
const TOKEN_HINT: &str =
    "--token-file, or the environment variable SWITCHBACK_TOKEN_FILE, names a copy of admin.token in the server's data folder";

/// Longest answer that is read, bytes: ten thousand vehicles of 500 bytes, and room.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which server, and as whom.
#[derive(Args)]
pub(crate) struct ServerArguments {
    /// Address of the server, such as `https://ota.example`
    #[arg(long, value_name = "URL", env = "SWITCHBACK_SERVER")]
    server: Option<String>,
    /// File with the token of the control plane (the server writes it to DATA/admin.token at its first start)
    #[arg(long, value_name = "FILE", env = "SWITCHBACK_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl ServerArguments {
    /// Whether there is a server to ask.
    pub(crate) fn is_named(&self) -> bool {
        self.server.is_some()
    }
}

/// A client of one server's control plane.
pub(crate) struct Client {
    http: blocking::Client,
    base: Url,
    token: String,
}

/// RFC 9457, with a hint.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl Client {
    pub(crate) fn new(arguments: &ServerArguments) -> anyhow::Result<Self> {
        let server = arguments
            .server
            .as_deref()
            .ok_or_else(|| failure("no server is named", "name it with --server URL, or in the environment variable SWITCHBACK_SERVER"))?;
        let base = Url::parse(server).with_context(|| format!("{server:?} is no URL")).hint("such as https://ota.example")?;
        if !matches!(base.scheme(), "https" | "http") || base.host_str().is_none() {
            bail!("{server:?} is no http or https URL");
        }
        let token_file = arguments.token_file.as_ref().ok_or_else(|| {
            let hint = "name its file with --token-file FILE, or in the environment variable SWITCHBACK_TOKEN_FILE";
            failure("the token of the control plane is missing", hint)
        })?;
        let token = String::from_utf8(files::read(token_file, TOKEN_BYTES_MAX).hint(TOKEN_HINT)?).ok().map(|token| token.trim().to_owned());
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        let token = token.with_context(|| format!("{} holds no token", token_file.display())).hint(TOKEN_HINT)?;
        let loopback = is_loopback(&base);
        // The token must not cross a network in the clear.
        if base.scheme() == "http" && !loopback {
            return Err(failure(format!("{server} is not encrypted"), "use https; plain http is for servers on this machine"));
        }
        Ok(Self { http: http_client(loopback)?, base, token })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.accepted(self.request(Method::GET, path))?;
        read_json(response).with_context(|| format!("the answer of {}", self.url(path)))
    }

    /// Bytes of a file, or nothing when there is none.
    pub(crate) fn find(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let response = self.send(self.request(Method::GET, path))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(read_bytes(accept(response)?)?))
    }

    /// Whether there is a file.
    pub(crate) fn exists(&self, path: &str) -> anyhow::Result<bool> {
        let response = self.send(self.request(Method::HEAD, path))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => accept(response).map(|_| true),
        }
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let response = self.accepted(self.request(Method::POST, path).json(body))?;
        read_json(response).with_context(|| format!("the answer of {}", self.url(path)))
    }

    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.accepted(self.request(Method::DELETE, path)).map(drop)
    }

    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        read_json(self.accepted(self.request(Method::PUT, path).body(bytes))?)
    }

    /// Sends bytes of any number; there is no limit on the time that takes.
    pub(crate) fn upload(&self, path: &str, body: Body) -> anyhow::Result<()> {
        let request = self.http.request(Method::PUT, self.url(path)).bearer_auth(&self.token).body(body);
        self.accepted(request).map(drop)
    }

    /// Begins to read a file of any length; there is no limit on the time that takes.
    pub(crate) fn download(&self, path: &str) -> anyhow::Result<Response> {
        self.accepted(self.http.request(Method::GET, self.url(path)).bearer_auth(&self.token))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(&self.token).timeout(ANSWER_TIME_MAX)
    }

    fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request
            .send()
            .map_err(|error| anyhow::anyhow!("{} cannot be reached: {}", self.base, root_cause(&error.without_url())))
            .hint("is the server running, and is --server its address?")
    }

    fn accepted(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        accept(self.send(request)?)
    }
}

/// Turns a refusal into an error with the server's own words.
fn accept(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let path = response.url().path().to_owned();
    let body = read_bytes(response).unwrap_or_default();
    let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
        bail!("the server answered {status} for {path}");
    };
    let error = anyhow::anyhow!("the server refused ({}): {}", status.as_u16(), problem.detail);
    if status == StatusCode::UNAUTHORIZED {
        // The server's own hint speaks of HTTP headers, which nobody types here.
        return Err(failure(error, TOKEN_HINT));
    }
    Err(match problem.hint {
        Some(hint) => failure(error, hint),
        None => error,
    })
}

fn read_json<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(&read_bytes(response)?)?)
}

fn read_bytes(response: Response) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    response.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes).context("the answer broke off")?;
    if bytes.len() as u64 > ANSWER_BYTES_MAX {
        bail!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
    }
    Ok(bytes)
}

fn http_client(loopback: bool) -> anyhow::Result<blocking::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = blocking::Client::builder()
        .user_agent(concat!("switchback/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIME_MAX)
        .timeout(None)
        // The token goes to the server that was named and to no other.
        .redirect(Policy::none());
    // A proxy cannot reach what runs on this machine.
    let builder = if loopback { builder.no_proxy() } else { builder };
    Ok(builder.build()?)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause says what happened; the layers around it say where in the client.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, loopback) in [
            ("http://127.0.0.1:8470", true),
            ("http://localhost", true),
            ("http://[::1]:1", true),
            ("http://127.0.0.1.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
