//! What the tests talk to the server with: plain sockets, people with keys, and a vehicle that believes nothing.

pub(crate) mod ceremony;
pub(crate) mod http;
pub(crate) mod servers;
pub(crate) mod vehicle;

pub(crate) use ceremony::Ceremony;
pub(crate) use http::Response;
pub(crate) use servers::{Program, TestServer};
pub(crate) use vehicle::{Said, TestVehicle};

use serde_json::{Value, json};
use switchback_signing::time::UnixTime;

/// When the tests begin.
pub(crate) const START: UnixTime = UnixTime::from_seconds(1_800_000_000);

pub(crate) fn system_now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixTime::from_seconds(since.as_secs().try_into().unwrap())
}

/// Something that answers on an address and knows the control plane's token.
pub(crate) trait Control {
    /// Address and port.
    fn address(&self) -> &str;

    /// The control plane's token.
    fn token(&self) -> &str;

    /// What time it is there.
    fn now(&self) -> UnixTime;

    /// A request of the control plane.
    fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.control_bytes(method, path, &bytes)
    }

    /// A request of the control plane with any body.
    fn control_bytes(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let authorization = format!("Bearer {}", self.token());
        http::request(self.address(), method, path, &[("authorization", &authorization)], body)
    }

    /// A request that must succeed; its JSON.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let response = self.control(method, path, body);
        assert!((200..300).contains(&response.status), "{method} {path}: {} {}", response.status, response.text());
        if response.body.is_empty() { Value::Null } else { response.json() }
    }

    /// Approves a release in `eu`.
    fn approve(&self, version: &str) -> i64 {
        let approval = json!({
            "model": "vla", "version": version, "region": "eu", "authority": "KBA", "number": "e1*2027",
            "valid_from": "2026-01-01T00:00:00Z",
        });
        self.ask("POST", "/v1/approvals", Some(&approval))["id"].as_i64().unwrap()
    }

    /// Writes down and starts a rollout to everybody that stops after `failures`.
    fn roll_out(&self, version: &str, failures: u32) -> i64 {
        let id = self.draft(version, &json!([{"name": "all", "percent": 100}]), failures);
        self.ask("POST", &format!("/v1/rollouts/{id}/start"), None);
        id
    }

    /// Writes down a rollout.
    fn draft(&self, version: &str, waves: &Value, failures: u32) -> i64 {
        self.draft_named(&format!("vla {version}"), version, waves, failures)
    }

    /// As [`Self::draft`], with a name of its own: two rollouts may bring one release.
    fn draft_named(&self, name: &str, version: &str, waves: &Value, failures: u32) -> i64 {
        let rollout = json!({
            "name": name, "release": {"model": "vla", "version": version},
            "waves": waves, "failure_limit": {"count": failures},
        });
        self.ask("POST", "/v1/rollouts", Some(&rollout))["id"].as_i64().unwrap()
    }

    /// A rollout with its progress.
    fn rollout(&self, id: i64) -> Value {
        self.ask("GET", &format!("/v1/rollouts/{id}"), None)
    }
}
