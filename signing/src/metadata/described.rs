//! What Director and Image repository say about an image in its `custom` object.
//!
//! The Standard (5.2.3.1, 5.2.3.2) says what must be there and leaves the names to each deployment. We write `ecuIdentifiers`, as
//! aktualizr does, and put what both repositories must say alike into `shallMatch`; what the reference implementation and POUF 1 write
//! is read as well. A fact that stands in two places must be the same in both, so that no two readers can differ about it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    EcuAssignment, EcuSerial, HardwareId, MetadataError, TargetMeta, Targets, VehicleId,
    json::Json,
    object::{Fields, wrong},
};
use crate::keys::sealing::SealedContentKey;

const SHALL_MATCH: &str = "shallMatch";
const ECU_IDENTIFIERS: &str = "ecuIdentifiers";
const CONTENT_KEY: &str = "contentKey";

/// An image for one ECU.
const ECU_NAMES: [&str; 3] = ["ecu_identifier", "ecu_serial", "ecuSerial"];
const ECU_HARDWARE_NAMES: [&str; 4] = ["hardware_identifier", "hardware_id", "hardwareId", "hardwareIdentifier"];
const HARDWARE_NAMES: [&str; 3] = ["hardwareIds", "hardware_ids", "hardware_identifiers"];
const RELEASE_COUNTER_NAMES: [&str; 2] = ["releaseCounter", "release_counter"];
const VEHICLE_NAMES: [&str; 6] = ["vehicleId", "vehicle_id", "vehicleIdentifier", "vehicle_identifier", "vin", "VIN"];

/// An ECU that a Director's target names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedEcu {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// What kind of computer the Director takes it for, if it says so.
    pub hardware_id: Option<HardwareId>,
}

impl TargetMeta {
    /// The same file, assigned to an ECU: what a Director lists.
    #[must_use]
    pub fn assigned_to(mut self, ecu: &EcuAssignment) -> Self {
        let hardware = Json::object([("hardwareId", Json::string(ecu.hardware_id.as_str()))]);
        let mut ecus = match self.custom.remove(ECU_IDENTIFIERS) {
            Some(Json::Object(ecus)) => ecus,
            _ => BTreeMap::new(),
        };
        ecus.insert(ecu.ecu_serial.to_string(), hardware);
        self.custom.insert(ECU_IDENTIFIERS.to_string(), Json::Object(ecus));
        self
    }

    /// The block that Director and Image repository must say alike, as it stands in the metadata.
    pub fn shall_match(&self) -> Option<&Json> {
        self.custom.get(SHALL_MATCH)
    }

    /// Says so.
    pub(super) fn with_shall_match(mut self, block: Json) -> Self {
        self.custom.insert(SHALL_MATCH.to_string(), block);
        self
    }

    /// The same file, with the key that opens its bundle for the one ECU that it is assigned to. Beside the block that both repositories
    /// must say alike, because each vehicle's is another one.
    #[must_use]
    pub fn with_content_key(mut self, key: &SealedContentKey) -> Self {
        self.custom.insert(CONTENT_KEY.to_string(), key.to_json());
        self
    }

    /// The sealed key of the bundle, as it stands in a Director's metadata.
    pub fn content_key(&self) -> Option<&Json> {
        self.custom.get(CONTENT_KEY)
    }

    /// The ECUs that a Director's target is for.
    ///
    /// # Errors
    /// [`MetadataError`] when there is none (Standard, 5.2.3.2: each image SHALL name its ECUs), when one is named with two kinds of
    /// hardware, or when the list is no list.
    pub fn ecus(&self) -> Result<Vec<ListedEcu>, MetadataError> {
        let place = format!("custom.{ECU_IDENTIFIERS}");
        let mut ecus = BTreeMap::new();
        if let Some(list) = self.custom.get(ECU_IDENTIFIERS) {
            for (place, serial, json) in Fields::new(list.clone(), place.as_str())?.entries() {
                let Json::Object(said) = json else { return Err(wrong(&place, "an object")) };
                let hardware_id = one_of(&said, &place, &ECU_HARDWARE_NAMES, "a hardware id")?;
                ecus.insert(EcuSerial::new(serial).map_err(|_| wrong("custom.ecuIdentifiers", "a list by ECU serial"))?, hardware_id);
            }
        }
        if let Some(serial) = one_of::<EcuSerial>(&self.custom, "custom", &ECU_NAMES, "an ECU serial")? {
            let hardware_id = one_of(&self.custom, "custom", &ECU_HARDWARE_NAMES, "a hardware id")?;
            if ecus.get(&serial).is_some_and(|listed| *listed != hardware_id) {
                return Err(wrong(&place, "what custom says about the same ECU"));
            }
            ecus.insert(serial, hardware_id);
        }
        if ecus.is_empty() {
            return Err(MetadataError::Missing { place });
        }
        Ok(ecus.into_iter().map(|(ecu_serial, hardware_id)| ListedEcu { ecu_serial, hardware_id }).collect())
    }

    /// The kinds of computer that the image is for, where it says so.
    ///
    /// # Errors
    /// [`MetadataError`] when it is no list of hardware ids, or said twice and differently.
    pub fn hardware_ids(&self) -> Result<Option<BTreeSet<HardwareId>>, MetadataError> {
        self.said(&HARDWARE_NAMES, "a list of hardware ids", |json| match json {
            Json::Array(items) => items.iter().map(|item| item.as_str()?.parse().ok()).collect(),
            _ => None,
        })
    }

    /// The image's release counter, where it has one.
    ///
    /// # Errors
    /// [`MetadataError`] when it is no counter, or said twice and differently.
    pub fn release_counter(&self) -> Result<Option<u64>, MetadataError> {
        self.said(&RELEASE_COUNTER_NAMES, "an integer from 0 on", |json| match json {
            Json::Integer(counter) => u64::try_from(*counter).ok(),
            _ => None,
        })
    }

    /// A fact that stands in `custom` or in its block `shallMatch`.
    fn said<T: PartialEq>(
        &self,
        names: &[&str],
        expected: &'static str,
        parse: fn(&Json) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        let block = match self.shall_match() {
            Some(Json::Object(block)) => Some(block),
            _ => None,
        };
        let said = [Some((&self.custom, "custom")), block.map(|block| (block, "custom.shallMatch"))];
        once(said.into_iter().flatten().flat_map(|(object, place)| found(object, place, names)), expected, parse)
    }
}

impl Targets {
    /// The vehicles that the metadata names: in `custom.vehicleId`, where we write it, or under the other names that are in use, there,
    /// at the top or with an image. More than one is nobody's metadata.
    ///
    /// # Errors
    /// [`MetadataError`] when one of them is no vehicle id.
    pub fn vehicle_ids(&self) -> Result<BTreeSet<VehicleId>, MetadataError> {
        let top = [(&self.custom, "signed.custom".to_string()), (&self.extra, "signed".to_string())];
        let images = self.targets.iter().map(|(path, meta)| (&meta.custom, format!("signed.targets.{path}.custom")));
        let mut ids: BTreeSet<VehicleId> = self.vehicle_id.clone().into_iter().collect();
        for (object, place) in top.into_iter().chain(images) {
            for (place, json) in found(object, &place, &VEHICLE_NAMES) {
                ids.insert(parsed(json).ok_or_else(|| wrong(&place, "a vehicle id"))?);
            }
        }
        Ok(ids)
    }
}

fn found<'a>(object: &'a BTreeMap<String, Json>, place: &str, names: &[&str]) -> Vec<(String, &'a Json)> {
    names.iter().filter_map(|name| Some((format!("{place}.{name}"), object.get(*name)?))).collect()
}

fn parsed<T: core::str::FromStr>(json: &Json) -> Option<T> {
    json.as_str()?.parse().ok()
}

fn one_of<T: core::str::FromStr + PartialEq>(
    object: &BTreeMap<String, Json>,
    place: &str,
    names: &[&str],
    expected: &'static str,
) -> Result<Option<T>, MetadataError> {
    once(found(object, place, names).into_iter(), expected, parsed)
}

/// The fact, which must be the same wherever it stands.
fn once<'a, T: PartialEq>(
    places: impl Iterator<Item = (String, &'a Json)>,
    expected: &'static str,
    parse: fn(&Json) -> Option<T>,
) -> Result<Option<T>, MetadataError> {
    let mut known = None;
    for (place, json) in places {
        let value = parse(json).ok_or_else(|| wrong(&place, expected))?;
        if known.as_ref().is_some_and(|known| *known != value) {
            return Err(wrong(&place, "what custom says about the same elsewhere"));
        }
        known = Some(value);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{digest::Sha256Digest, metadata::json};

    fn image(custom: &str) -> TargetMeta {
        let Json::Object(custom) = json::parse(custom.as_bytes(), 10_000).unwrap() else { panic!("an object") };
        TargetMeta { custom, ..TargetMeta::of_digest(1, Sha256Digest::of(b"")) }
    }

    fn ecus(custom: &str) -> String {
        match image(custom).ecus() {
            Ok(ecus) => {
                let text = |ecu: &ListedEcu| format!("{} {}", ecu.ecu_serial, ecu.hardware_id.as_ref().map_or("-", HardwareId::as_str));
                ecus.iter().map(text).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_image_names_its_ecus_in_every_way_that_is_in_use() {
        for (custom, expected) in [
            (
                r#"{"ecuIdentifiers":{"ecu-1":{"hardwareId":"thor"},"CA:FE:A6:D2:84:9D":{"hardwareId":"orin"}}}"#,
                "CA:FE:A6:D2:84:9D orin, ecu-1 thor",
            ),
            (r#"{"ecuIdentifiers":{"ecu-1":{}}}"#, "ecu-1 -"),
            (r#"{"ecu_serial":"TCUdemocar"}"#, "TCUdemocar -"),
            (r#"{"ecu_identifier":"ecu-1","hardware_identifier":"thor","release_counter":3}"#, "ecu-1 thor"),
            (r#"{"ecuIdentifiers":{"ecu-1":{"hardwareId":"thor"}},"ecu_serial":"ecu-1","hardware_id":"thor"}"#, "ecu-1 thor"),
            (
                r#"{"ecuIdentifiers":{"ecu-1":{"hardwareId":"thor"}},"ecu_serial":"ecu-1","hardware_id":"orin"}"#,
                "custom.ecuIdentifiers is not what custom says about the same ECU",
            ),
            (r#"{"ecu_serial":"a","ecu_identifier":"b"}"#, "custom.ecu_serial is not what custom says about the same elsewhere"),
            (r#"{"ecuIdentifiers":["ecu-1"]}"#, "custom.ecuIdentifiers is not an object"),
            (r#"{"ecuIdentifiers":{"ecu-1":"thor"}}"#, "custom.ecuIdentifiers.ecu-1 is not an object"),
            (r#"{"ecuIdentifiers":{"../x":{}}}"#, "custom.ecuIdentifiers is not a list by ECU serial"),
            (r#"{"ecuIdentifiers":{}}"#, "custom.ecuIdentifiers is missing"),
            (r#"{"ecu_serial":7}"#, "custom.ecu_serial is not an ECU serial"),
        ] {
            assert_eq!(ecus(custom), expected, "{custom}");
        }
    }

    #[test]
    fn counter_and_hardware_stand_in_the_block_or_beside_it_and_nowhere_differently() {
        let facts = |custom: &str| -> Result<String, MetadataError> {
            let image = image(custom);
            Ok(format!("{:?} {:?}", image.release_counter()?, image.hardware_ids()?.map(|ids| ids.len())))
        };
        for (custom, expected) in [
            ("{}", "None None"),
            (r#"{"releaseCounter":3,"hardwareIds":["a","b","a"]}"#, "Some(3) Some(2)"),
            (r#"{"shallMatch":{"releaseCounter":3,"hardwareIds":["a"]}}"#, "Some(3) Some(1)"),
            (r#"{"shallMatch":{"releaseCounter":3},"release_counter":3}"#, "Some(3) None"),
        ] {
            assert_eq!(facts(custom).unwrap(), expected, "{custom}");
        }
        for (custom, expected) in [
            (
                r#"{"shallMatch":{"releaseCounter":3},"releaseCounter":4}"#,
                "custom.shallMatch.releaseCounter is not what custom says about the same elsewhere",
            ),
            (r#"{"releaseCounter":-1}"#, "custom.releaseCounter is not an integer from 0 on"),
            (r#"{"releaseCounter":"3"}"#, "custom.releaseCounter is not an integer from 0 on"),
            (r#"{"hardwareIds":"thor"}"#, "custom.hardwareIds is not a list of hardware ids"),
            (r#"{"hardwareIds":["a b"]}"#, "custom.hardwareIds is not a list of hardware ids"),
        ] {
            assert_eq!(facts(custom).unwrap_err().to_string(), expected, "{custom}");
        }
    }

    #[test]
    fn a_vehicle_is_named_at_the_top_in_custom_or_with_an_image() {
        let vehicles = |top: &str, custom: &str, of_image: &str| {
            let object = |text: &str| match json::parse(text.as_bytes(), 1_000).unwrap() {
                Json::Object(object) => object,
                _ => panic!("an object"),
            };
            let mut targets = Targets::new(1, crate::testing::NOW);
            (targets.extra, targets.custom) = (object(top), object(custom));
            targets.targets.insert("image".into(), image(of_image));
            targets.vehicle_ids().map(|ids| ids.iter().map(VehicleId::as_str).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(vehicles("{}", "{}", "{}").unwrap(), "");
        assert_eq!(vehicles(r#"{"vin":"v-1"}"#, "{}", "{}").unwrap(), "v-1");
        assert_eq!(vehicles("{}", r#"{"vehicle_identifier":"v-1"}"#, r#"{"vehicleId":"v-1"}"#).unwrap(), "v-1");
        assert_eq!(vehicles(r#"{"vin":"v-1"}"#, "{}", r#"{"vehicle_id":"v-2"}"#).unwrap(), "v-1, v-2");
        assert_eq!(vehicles(r#"{"vin":"v 1"}"#, "{}", "{}").unwrap_err().to_string(), "signed.vin is not a vehicle id");
    }
}
