use std::{collections::BTreeSet, fmt, sync::Arc};

use switchback_signing::{
    keys::file::public_to_bytes,
    metadata::{
        EcuSerial, HardwareId, NameError, Region, Tier, VehicleId,
        vehicle::{EnrolledSecondary, EnrollmentRequest, SECONDARIES_MAX},
    },
    time::UnixTime,
};

use super::{Server, fleet_vehicle, random_token, to_the_end, token_sha256, words::unknown};
use crate::{
    director::Held,
    fleet::{Secondary, SecondaryState, VehicleState},
    keys::KeyError,
    registry::{NewEvent, NewToken, RegistryError, Token, TokenSecondary, VehicleRow},
    rollout::Rules,
};

/// A token is used within this time or never.
const TOKEN_LIFE_S: i64 = 7 * 86_400;

/// `/v1/director/root/...` is where the Director's root is published.
const RESERVED_ID: &str = "root";

/// Why a vehicle could not enroll, or a token not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// A word of the vehicle's description is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The id stands for something else in the API's addresses.
    #[error("a vehicle cannot be named {RESERVED_ID:?}")]
    Reserved,
    /// A vehicle of that id exists.
    #[error("vehicle {0} is enrolled already")]
    AlreadyEnrolled(String),
    /// No vehicle of that id exists.
    #[error("vehicle {0} is not enrolled, there is no key to replace")]
    NotEnrolled(String),
    /// No release can ever fit the vehicle.
    #[error("the Image repository knows no tier {tier}; it knows {}", known.join(", "))]
    UnknownTier {
        /// The tier.
        tier: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Another vehicle has that ECU.
    #[error("ECU {0} belongs to another vehicle")]
    EcuTaken(String),
    /// Unknown, used, withdrawn or expired; which of these is nobody's business.
    #[error("the enrollment token is not valid")]
    TokenInvalid,
    /// The vehicle is not the one that the token was made for.
    #[error("the token was made for another {what} than {found}")]
    OtherVehicle {
        /// What differs.
        what: &'static str,
        /// What the vehicle says.
        found: String,
    },
    /// The vehicle has other ECUs than the token was made for.
    #[error("the token was made for a vehicle with these Secondaries: {expected}; this one has: {found}")]
    OtherSecondaries {
        /// Those that whoever issued it named.
        expected: String,
        /// Those that the vehicle names.
        found: String,
    },
    /// The token names more Secondaries than a vehicle can have, or one twice.
    #[error("a vehicle has at most {SECONDARIES_MAX} Secondaries, each with a serial of its own")]
    Secondaries,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A token for one vehicle, and what to know of it.
#[derive(Clone)]
pub struct IssuedToken {
    /// Shown once and kept nowhere.
    pub token: String,
    /// After this it is worthless.
    pub expires_at: UnixTime,
    /// Whether an older token of the vehicle, unused and still good, became worthless.
    pub replaced: bool,
    /// What is legal but probably not meant.
    pub warnings: Vec<String>,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl From<&EnrolledSecondary> for TokenSecondary {
    fn from(ecu: &EnrolledSecondary) -> Self {
        Self { ecu_serial: ecu.ecu_serial.to_string(), hardware_id: ecu.hardware_id.to_string() }
    }
}

impl Server {
    /// Makes a one-time token for one vehicle. An older unused one of the same vehicle becomes worthless.
    pub async fn issue_token(&self, token: Token) -> Result<IssuedToken, EnrollError> {
        check_names(&token)?;
        if token.vehicle_id == RESERVED_ID {
            return Err(EnrollError::Reserved);
        }
        if let Some(secondaries) = &token.secondaries {
            let serials: BTreeSet<&str> = secondaries.iter().map(|ecu| ecu.ecu_serial.as_str()).collect();
            if serials.len() < secondaries.len() || serials.len() > SECONDARIES_MAX {
                return Err(EnrollError::Secondaries);
            }
        }
        match (self.fleet.find(&token.vehicle_id), token.replaces) {
            (Some(_), false) => return Err(EnrollError::AlreadyEnrolled(token.vehicle_id)),
            (None, true) => return Err(EnrollError::NotEnrolled(token.vehicle_id)),
            (Some(_), true) | (None, false) => {}
        }
        if let Some(known) = self.image.load().tiers().filter(|known| !known.contains(&token.tier)) {
            return Err(EnrollError::UnknownTier { tier: token.tier, known: known.into_iter().collect() });
        }
        let mut warnings = unknown_words(&token, &self.rules.load());
        let (text, now) = (random_token()?, self.now());
        let expires_at = now.plus_seconds(TOKEN_LIFE_S);
        let _control = self.control.lock().await;
        let mut change = self.registry.change().await?;
        let vehicle_id = token.vehicle_id.clone();
        let replaced = change.add_token(&NewToken { sha256: token_sha256(&text), token, expires_at }, now).await?;
        change.commit().await?;
        if replaced {
            warnings.push(format!("an older token of {vehicle_id} that was still good is worthless now"));
        }
        Ok(IssuedToken { token: text, expires_at, replaced, warnings })
    }

    /// Binds a vehicle's key to the description that its token stands for.
    ///
    /// The same vehicle may ask again with the same key: it may have lost power before it read the answer.
    pub async fn enroll(self: &Arc<Self>, request: &EnrollmentRequest) -> Result<(), EnrollError> {
        let (server, request) = (Arc::clone(self), request.clone());
        to_the_end(async move { server.bind(&request).await }).await
    }

    async fn bind(&self, request: &EnrollmentRequest) -> Result<(), EnrollError> {
        let (sha256, now) = (token_sha256(&request.token), self.now());
        // Anybody can ask; only who has a token takes a turn at what everything else waits for.
        if !self.registry.knows_token(&sha256).await? {
            return Err(EnrollError::TokenInvalid);
        }
        let _control = self.control.lock().await;
        let mut change = self.registry.change().await?;
        let Some(token) = change.token(&sha256, now).await? else {
            let enrolled = change.enrolled_by(&sha256).await?;
            let known = self.fleet.find(request.vehicle_id.as_str());
            let again = known.is_some_and(|known| {
                enrolled.as_deref() == Some(request.vehicle_id.as_str())
                    && *known.requests.public_key() == request.public_key
                    && known.addressee.ecu_serial == request.ecu_serial
                    && known.addressee.secondaries == request.secondaries
            });
            return if again { Ok(()) } else { Err(EnrollError::TokenInvalid) };
        };
        check_vehicle(&token, request)?;
        let before = self.fleet.find(&token.vehicle_id).filter(|_| token.replaces);
        let mut row = vehicle_row(token, request, now);
        if let Some(before) = &before {
            keep(&before.state.load(), &mut row);
        }
        let vehicle = fleet_vehicle(&self.fleet, row.clone()).map_err(|detail| RegistryError::Corrupt { table: "vehicles", detail })?;
        if !change.use_token(&sha256, now).await? {
            return Err(EnrollError::TokenInvalid);
        }
        let serials: Vec<_> = [&request.ecu_serial].into_iter().chain(request.secondaries.iter().map(|ecu| &ecu.ecu_serial)).collect();
        let serials: Vec<_> = serials.into_iter().map(EcuSerial::as_str).collect();
        if let Some(taken) = change.ecu_of_another(&row.vehicle_id, &serials).await? {
            return Err(EnrollError::EcuTaken(taken));
        }
        let (bound, kind) = match &before {
            Some(_) => (change.replace_vehicle(&row).await, "vehicle_replaced"),
            None => (change.add_vehicle(&row).await, "vehicle_enrolled"),
        };
        if let Err(error) = bound {
            if !error.is_duplicate() {
                return Err(error.into());
            }
            // The ECUs are free, so it is the vehicle that is there already.
            return Err(EnrollError::AlreadyEnrolled(row.vehicle_id));
        }
        change.bind_secondaries(&row.vehicle_id, &request.secondaries).await?;
        change.add_event(&enrolled_event(kind, &row), now).await?;
        change.commit().await?;
        self.fleet.insert(Arc::new(vehicle));
        tracing::info!(vehicle.id = row.vehicle_id, tier = row.tier, "vehicle enrolled");
        Ok(())
    }
}

fn check_names(token: &Token) -> Result<(), NameError> {
    VehicleId::new(&token.vehicle_id)?;
    Tier::new(&token.tier)?;
    HardwareId::new(&token.hardware_id)?;
    Region::new(&token.region)?;
    // Tenants and model lines have no type of their own in signed metadata, but the same alphabet.
    VehicleId::new(&token.tenant)?;
    VehicleId::new(&token.model_line)?;
    for TokenSecondary { ecu_serial, hardware_id } in token.secondaries.iter().flatten() {
        EcuSerial::new(ecu_serial)?;
        HardwareId::new(hardware_id)?;
    }
    Ok(())
}

/// Words of a vehicle's description that nothing else has.
fn unknown_words(token: &Token, rules: &Rules) -> Vec<String> {
    let (releases, rollouts, approvals) = (&rules.releases, &rules.rollouts, &rules.approvals);
    let hardware_ids = releases.iter().flat_map(|release| &release.hardware_ids);
    let regions = releases.iter().flat_map(|release| &release.regions).chain(approvals.iter().map(|approval| &approval.region));
    let lines = approvals.iter().flat_map(|approval| &approval.model_lines);
    let waves = rollouts.iter().flat_map(|rollout| &rollout.waves);
    let known: [(&str, &str, BTreeSet<&String>); 3] = [
        ("hardware", &token.hardware_id, hardware_ids.chain(rollouts.iter().flat_map(|rollout| &rollout.selector.hardware_ids)).collect()),
        ("region", &token.region, regions.chain(rollouts.iter().flat_map(|rollout| &rollout.selector.regions)).collect()),
        (
            "model line",
            &token.model_line,
            lines
                .chain(rollouts.iter().flat_map(|rollout| &rollout.selector.model_lines))
                .chain(waves.flat_map(|wave| &wave.model_lines))
                .collect(),
        ),
    ];
    let warning = |(kind, word, known): (&str, &str, BTreeSet<&String>)| {
        let known = known.into_iter().map(String::as_str).collect();
        unknown("release, approval or rollout", kind, word, &known)
    };
    known.into_iter().filter_map(warning).collect()
}

fn check_vehicle(token: &Token, request: &EnrollmentRequest) -> Result<(), EnrollError> {
    let same = |what, expected: &str, found: &str| {
        if expected == found { Ok(()) } else { Err(EnrollError::OtherVehicle { what, found: found.to_owned() }) }
    };
    same("vehicle", &token.vehicle_id, request.vehicle_id.as_str())?;
    same("hardware", &token.hardware_id, request.hardware_id.as_str())?;
    // The inventory is private (Uptane, 5.3.2.1): where somebody has said what belongs to the vehicle, its Primary has no say in it.
    let Some(expected) = &token.secondaries else { return Ok(()) };
    let found: BTreeSet<TokenSecondary> = request.secondaries.iter().map(TokenSecondary::from).collect();
    if found == *expected { Ok(()) } else { Err(EnrollError::OtherSecondaries { expected: listed(expected), found: listed(&found) }) }
}

fn listed(secondaries: &BTreeSet<TokenSecondary>) -> String {
    let ecu = |TokenSecondary { ecu_serial, hardware_id }: &TokenSecondary| format!("{ecu_serial} ({hardware_id})");
    if secondaries.is_empty() { "none".to_owned() } else { secondaries.iter().map(ecu).collect::<Vec<_>>().join(", ") }
}

/// What a vehicle that begins anew keeps: its floor, and the versions of its metadata, which only rise. The metadata itself is signed
/// anew at the next poll, for it may name another computer.
fn keep(before: &VehicleState, row: &mut VehicleRow) {
    if *before.vehicle.tier == *row.tier {
        row.confirmed_counter = before.vehicle.confirmed_counter;
    }
    row.held = before.held.clone().map(|held| Held { expires: 0, ..held });
}

fn vehicle_row(token: Token, request: &EnrollmentRequest, now: UnixTime) -> VehicleRow {
    VehicleRow {
        vehicle_id: token.vehicle_id,
        tenant: token.tenant,
        tier: token.tier,
        hardware_id: token.hardware_id,
        model_line: token.model_line,
        region: token.region,
        ecu_serial: request.ecu_serial.to_string(),
        public_key: String::from_utf8_lossy(&public_to_bytes(&request.public_key)).into_owned(),
        sdk_version: request.sdk_version.to_string(),
        enrolled_at: now,
        last_seen: now,
        report_counter: 0,
        installed: None,
        confirmed_counter: 0,
        secondaries: request.secondaries.iter().map(|ecu| Secondary { ecu: ecu.clone(), state: SecondaryState::default() }).collect(),
        gave_up: Vec::new(),
        encryption_key: request.encryption_key,
        held: None,
    }
}

fn enrolled_event(kind: &'static str, row: &VehicleRow) -> NewEvent {
    NewEvent {
        kind,
        rollout: None,
        vehicle_id: Some(row.vehicle_id.clone()),
        text: format!("enrolled with tier {}, hardware {}, region {}{}", row.tier, row.hardware_id, row.region, and_ecus(row)),
    }
}

fn and_ecus(row: &VehicleRow) -> String {
    let ecus: Vec<_> = row.secondaries.iter().map(|Secondary { ecu, .. }| format!("{} ({})", ecu.ecu_serial, ecu.hardware_id)).collect();
    if ecus.is_empty() { String::new() } else { format!(", Secondaries {}", ecus.join(", ")) }
}
