//! JSON of the control plane. Separate from the types that we think with, and strict: an unknown field is a mistake worth hearing of.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use switchback_signing::{
    keys::{KeyId, Sha256Digest},
    metadata::{VehicleId, vehicle::EnrolledSecondary},
    time::UnixTime,
};

use super::Problem;
use crate::{
    fleet::{FleetVehicle, VehicleState},
    gate::FailureLimit,
    keys::Pending,
    registry::{Event, NewRollout, Token, TokenSecondary},
    rollout::{Approval, ApprovalId, GaveUp, Release, ReleaseName, Rollout, RolloutState, Selector, Share, Wave, Withheld},
    server::{KeysView, Published, RepositoryKeysView, RoleKeysView, RolloutView, SetsView, Uncertified, VehicleView, WaveProgress},
};

/// Media type of JSON.
pub(super) const JSON: &str = "application/json";
/// Longest request of the control plane, bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1_024;
/// Waves of one rollout.
const WAVES_MAX: usize = 100;
/// Words in one list of a selector or wave.
const WORDS_MAX: usize = 1_000;
/// Longest text that a person writes: a name, a reason, a number.
const TEXT_CHARS_MAX: usize = 500;

/// A time in the form of signed metadata, such as `2027-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Time(UnixTime);

impl TryFrom<String> for Time {
    type Error = switchback_signing::time::TimeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        UnixTime::parse_rfc3339(&text).map(Self)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.0.to_string()
    }
}

/// Body of `POST /v1/enrollment-tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    vehicle_id: String,
    tenant: String,
    tier: String,
    hardware_id: String,
    model_line: String,
    region: String,
    #[serde(default)]
    replace: bool,
    /// Absent where nobody says which Secondaries the vehicle must have.
    #[serde(default)]
    secondaries: Option<BTreeSet<TokenSecondary>>,
}

/// Body of `POST /v1/online-keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeysRequest {
    /// Whether new keys that no root names yet are dropped for others.
    #[serde(default)]
    replace: bool,
}

impl NewKeysRequest {
    pub(super) fn into_pending(self) -> Pending {
        if self.replace { Pending::Replace } else { Pending::Keep }
    }
}

/// What a root is published with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootQuery {
    #[serde(default)]
    pub(super) uncertified: UncertifiedWord,
}

/// Whether a root is published although the server can sign nothing under it.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UncertifiedWord {
    #[default]
    Refuse,
    Accept,
}

impl From<UncertifiedWord> for Uncertified {
    fn from(word: UncertifiedWord) -> Self {
        match word {
            UncertifiedWord::Refuse => Self::Refuse,
            UncertifiedWord::Accept => Self::Accept,
        }
    }
}

/// Body of `POST /v1/approvals`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalRequest {
    model: String,
    version: String,
    region: String,
    #[serde(default)]
    model_lines: Vec<String>,
    authority: String,
    number: String,
    valid_from: Time,
    #[serde(default)]
    valid_until: Option<Time>,
}

/// Body of `POST /v1/rollouts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutRequest {
    name: String,
    release: ReleaseName,
    #[serde(default)]
    selector: Selector,
    waves: Vec<WaveJson>,
    failure_limit: FailureLimit,
}

/// One wave, in requests and answers.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WaveJson {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Time>,
    percent: f64,
    #[serde(default)]
    model_lines: Vec<String>,
}

/// Body of `POST /v1/rollouts/{id}/pause`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
    pub(super) reason: String,
}

/// Body of `POST /v1/rollouts/{id}/resume`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeRequest {
    pub(super) note: String,
}

/// Reads a request's JSON.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(invalid)
}

fn invalid(detail: impl ToString) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "request_malformed", detail)
}

/// Checks a text that a person wrote.
pub(super) fn text(what: &str, text: String) -> Result<String, Problem> {
    let legal = !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control);
    if legal { Ok(text) } else { Err(invalid(format!("{what} is 1 to {TEXT_CHARS_MAX} printable characters"))) }
}

fn words<'a>(what: &str, words: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    for (count, word) in words.enumerate() {
        if count >= WORDS_MAX {
            return Err(invalid(format!("{what} lists more than {WORDS_MAX} words")));
        }
        // All of them are matched against names of this alphabet; another word could never match.
        VehicleId::new(word.as_str()).map_err(|error| invalid(format!("{what}: {error}")))?;
    }
    Ok(())
}

impl TokenRequest {
    pub(super) fn into_token(self) -> Token {
        let Self { vehicle_id, tenant, tier, hardware_id, model_line, region, replace: replaces, secondaries } = self;
        Token { vehicle_id, tenant, tier, hardware_id, model_line, region, replaces, secondaries }
    }
}

impl ApprovalRequest {
    pub(super) fn into_approval(self) -> Result<Approval, Problem> {
        words("region", [&self.region].into_iter())?;
        words("model_lines", self.model_lines.iter())?;
        let ends_before_it_begins = self.valid_until.is_some_and(|until| until.0 <= self.valid_from.0);
        if ends_before_it_begins {
            return Err(invalid("valid_until is not after valid_from"));
        }
        Ok(Approval {
            id: ApprovalId(0),
            release: ReleaseName { model: text("model", self.model)?, version: text("version", self.version)? },
            contents: Vec::new(),
            region: self.region,
            model_lines: self.model_lines,
            authority: text("authority", self.authority)?,
            number: text("number", self.number)?,
            valid_from: self.valid_from.0,
            valid_until: self.valid_until.map(|until| until.0),
        })
    }
}

impl RolloutRequest {
    /// The salt is fresh randomness: it decides which vehicles come first.
    pub(super) fn into_rollout(self, salt: String) -> Result<NewRollout, Problem> {
        words("selector", self.selector.words())?;
        if self.waves.is_empty() || self.waves.len() > WAVES_MAX {
            return Err(invalid(format!("a rollout has 1 to {WAVES_MAX} waves")));
        }
        Ok(NewRollout {
            name: text("name", self.name)?,
            release: self.release,
            selector: self.selector,
            waves: self.waves.into_iter().map(WaveJson::into_wave).collect::<Result<_, _>>()?,
            salt,
            failure_limit: self.failure_limit,
        })
    }
}

impl WaveJson {
    fn into_wave(self) -> Result<Wave, Problem> {
        words("model_lines", self.model_lines.iter())?;
        if let (Some(start), Some(end)) = (self.starts_at, self.ends_at)
            && end.0 < start.0
        {
            return Err(invalid(format!("wave {:?} ends before it starts", self.name)));
        }
        Ok(Wave {
            name: text("a wave's name", self.name)?,
            starts_at: self.starts_at.map(|time| time.0),
            ends_at: self.ends_at.map(|time| time.0),
            share: Share::from_percent(self.percent).map_err(invalid)?,
            model_lines: self.model_lines,
        })
    }
}

impl From<&Wave> for WaveJson {
    fn from(wave: &Wave) -> Self {
        Self {
            name: wave.name.clone(),
            starts_at: wave.starts_at.map(Time),
            ends_at: wave.ends_at.map(Time),
            percent: wave.share.percent(),
            model_lines: wave.model_lines.clone(),
        }
    }
}

pub(super) fn published(published: &Published) -> Value {
    json!({
        "role": published.role,
        "version": published.version,
        "snapshot_version": published.snapshot_version,
        "timestamp_version": published.timestamp_version,
        "warnings": published.warnings,
    })
}

/// Answer of `GET /v1/keys`:
///
/// `{"image": {"root": {"version", "expires"} or null, "problem": text or null, "roles": {ROLE: {"named": [KEY_ID], "held": [{"key_id",
/// "use": "signs" | "waits" | "not_named"}], "version", "expires"}}}, "director": the same, without version and expiry of its roles, "sets":
/// {"vehicles", "signed", "by_other_keys", "expired", "targets_expire", "timestamp_expires"}}`. A time that does not exist is null.
pub(super) fn keys(view: &KeysView) -> Value {
    let [image, director] = view.repositories.each_ref().map(repository_keys);
    let SetsView { vehicles, signed, by_other_keys, expired, targets_expire, timestamp_expires } = view.sets;
    let sets = json!({
        "vehicles": vehicles,
        "signed": signed,
        "by_other_keys": by_other_keys,
        "expired": expired,
        "targets_expire": targets_expire.map(Time),
        "timestamp_expires": timestamp_expires.map(Time),
    });
    json!({"image": image, "director": director, "sets": sets})
}

fn repository_keys(view: &RepositoryKeysView) -> Value {
    let role = |view: &RoleKeysView| {
        let held: Vec<Value> = view.held.iter().map(|(id, key_use)| json!({"key_id": id.as_str(), "use": key_use.name()})).collect();
        let mut role = json!({"named": view.named.iter().map(KeyId::as_str).collect::<Vec<_>>(), "held": held});
        if let Some((version, expires)) = view.published {
            (role["version"], role["expires"]) = (json!(version), json!(Time(expires)));
        }
        (view.role.to_owned(), role)
    };
    json!({
        "root": view.root.map(|(version, expires)| json!({"version": version, "expires": Time(expires)})),
        "problem": view.problem,
        "roles": view.roles.iter().map(role).collect::<serde_json::Map<_, _>>(),
    })
}

pub(super) fn release(release: &Release) -> Value {
    json!({
        "model": release.name.model,
        "version": release.name.version,
        "tier": release.tier,
        "hardware_ids": release.hardware_ids,
        "regions": release.regions,
        "release_counter": release.counter,
        "path": release.assigned.path,
        "sha256": release.sha256,
        "encrypted": release.encrypted_bundle.is_some(),
    })
}

pub(super) fn approval(approval: &Approval) -> Value {
    json!({
        "id": approval.id.0,
        "model": approval.release.model,
        "version": approval.release.version,
        "contents": approval.contents,
        "region": approval.region,
        "model_lines": approval.model_lines,
        "authority": approval.authority,
        "number": approval.number,
        "valid_from": Time(approval.valid_from),
        "valid_until": approval.valid_until.map(Time),
    })
}

pub(super) fn rollout(rollout: &Rollout) -> Value {
    let (paused_by, reason, since) = match &rollout.state {
        RolloutState::Draft | RolloutState::Running => (None, None, None),
        RolloutState::Paused { by, reason, since } => (Some(*by), Some(reason.as_str()), Some(Time(UnixTime::from_seconds(*since)))),
    };
    json!({
        "id": rollout.id.0,
        "name": rollout.name,
        "release": rollout.release,
        "selector": rollout.selector,
        "waves": rollout.waves.iter().map(WaveJson::from).collect::<Vec<_>>(),
        "failure_limit": rollout.failure_limit,
        "state": rollout.state.name(),
        "paused_by": paused_by,
        "paused_reason": reason,
        "paused_since": since,
        "started_at": rollout.started_at.map(Time),
    })
}

pub(super) fn rollout_view(view: &RolloutView) -> Value {
    let mut value = rollout(&view.rollout);
    value["gate"] = json!({"confirmed": view.tally.confirmed, "failed": view.tally.failed});
    value["waves"] = view.rollout.waves.iter().zip(&view.waves).map(|(wave, progress)| wave_view(wave, progress)).collect();
    value["events"] = view.events.iter().map(event).collect();
    value["warnings"] = json!(view.warnings);
    value
}

fn wave_view(wave: &Wave, progress: &WaveProgress) -> Value {
    let mut value = json!(WaveJson::from(wave));
    value["selected"] = json!(progress.selected);
    value["reached"] = json!(progress.reached);
    // Everybody who was told of the release, however far they came since.
    value["offered"] = json!(progress.stages.values().sum::<u64>());
    value["confirmed"] = json!(progress.confirmed);
    value["failed"] = json!(progress.failed);
    value["not_installable"] = json!(progress.not_installable);
    value["not_blamed"] = json!(progress.not_blamed);
    value["withheld"] = json!(progress.withheld);
    value["stages"] = json!(progress.stages);
    value["reasons"] = json!(progress.reasons);
    value
}

pub(super) fn vehicle(vehicle: &FleetVehicle) -> Value {
    let state = vehicle.state.load();
    let facts = &state.vehicle;
    json!({
        "vehicle_id": &*facts.id,
        "tenant": &*facts.tenant,
        "tier": &*facts.tier,
        "hardware_id": &*facts.hardware_id,
        "model_line": &*facts.model_line,
        "region": &*facts.region,
        "ecu_serial": vehicle.addressee.ecu_serial.as_str(),
        "key_id": vehicle.requests.key_id().as_str(),
        // Whether content keys can be sealed for it.
        "encryption_key": facts.encryption_key.map(|key| Sha256Digest::from_bytes(*key.as_bytes())),
        "sdk_version": vehicle.sdk_version,
        "enrolled_at": Time(vehicle.enrolled_at),
        "last_seen": Time(vehicle.last_seen()),
        "report_counter": state.report_counter,
        "confirmed_counter": facts.confirmed_counter,
        "gave_up": facts.gave_up.iter().map(gave_up).collect::<Vec<_>>(),
        "installed": state.installed,
        "secondaries": vehicle.addressee.secondaries.iter().map(|ecu| secondary(ecu, &state)).collect::<Vec<_>>(),
        "assigned": state.held.as_ref().and_then(|held| held.assigned.as_ref()).map(|assigned| &assigned.path),
    })
}

fn secondary(ecu: &EnrolledSecondary, state: &VehicleState) -> Value {
    let state = state.secondaries.get(&ecu.ecu_serial);
    json!({
        "ecu_serial": ecu.ecu_serial.as_str(),
        "hardware_id": ecu.hardware_id.as_str(),
        "key_id": ecu.public_key.key_id().as_str(),
        "report_counter": state.map_or(0, |state| state.report_counter),
        "installed": state.and_then(|state| state.installed.as_ref()),
        "trouble": state.and_then(|state| state.trouble.as_ref()),
    })
}

fn gave_up(gave_up: &GaveUp) -> Value {
    json!({"release": gave_up.release, "sha256": gave_up.sha256, "reason": &*gave_up.reason})
}

pub(super) fn vehicle_view(view: &VehicleView) -> Value {
    let mut value = vehicle(&view.vehicle);
    let verdicts = view.verdicts.iter().map(|(rollout, withheld)| {
        json!({
            "id": rollout.id.0,
            "name": rollout.name,
            "release": rollout.release,
            "offered": withheld.is_none(),
            "withheld": withheld.as_ref().map(Withheld::to_string),
        })
    });
    value["rollouts"] = verdicts.collect();
    value["attacks"] = view.attacks.iter().map(event).collect();
    value
}

fn event(event: &Event) -> Value {
    json!({"id": event.id, "at": Time(event.at), "kind": event.kind, "text": event.text})
}

/// A page of vehicles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Begin behind this id.
    #[serde(default)]
    pub(super) after: String,
    /// At most this many.
    #[serde(default = "page_default")]
    pub(super) limit: usize,
}

/// Vehicles on one page at most.
pub(super) const PAGE_MAX: usize = 10_000;

const fn page_default() -> usize {
    1_000
}
