//! The vehicles' other ECUs.

use std::collections::HashMap;

use sqlx::{Row, sqlite::SqliteRow};
use switchback_signing::{
    keys::file::{parse_public, public_to_bytes},
    metadata::vehicle::EnrolledSecondary,
};

use super::{Change, Registry, RegistryError, from_sql, to_sql};
use crate::fleet::{Secondary, SecondaryState};

impl Registry {
    /// All Secondaries by vehicle, in the order of their serials.
    pub async fn secondaries(&self) -> Result<HashMap<String, Vec<Secondary>>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM secondaries ORDER BY ecu_serial").fetch_all(&self.readers).await?;
        let mut secondaries: HashMap<String, Vec<Secondary>> = HashMap::new();
        for row in rows {
            secondaries.entry(row.get("vehicle_id")).or_default().push(secondary(&row)?);
        }
        Ok(secondaries)
    }
}

impl Change {
    /// The first of these ECUs that belongs to another vehicle.
    pub async fn ecu_of_another(&mut self, vehicle_id: &str, serials: &[&str]) -> Result<Option<String>, RegistryError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM vehicles WHERE ecu_serial = ?1 AND vehicle_id <> ?2)
                   OR EXISTS (SELECT 1 FROM secondaries WHERE ecu_serial = ?1 AND vehicle_id <> ?2)";
        for serial in serials {
            let query = sqlx::query_scalar(sql).bind(serial).bind(vehicle_id);
            let taken: bool = query.fetch_one(&mut *self.transaction).await?;
            if taken {
                return Ok(Some((*serial).to_owned()));
            }
        }
        Ok(None)
    }

    /// Makes these the vehicle's Secondaries, in place of those that it had; each begins to count its reports anew.
    pub async fn bind_secondaries(&mut self, vehicle_id: &str, secondaries: &[EnrolledSecondary]) -> Result<(), RegistryError> {
        sqlx::query("DELETE FROM secondaries WHERE vehicle_id = ?").bind(vehicle_id).execute(&mut *self.transaction).await?;
        let sql = "INSERT INTO secondaries (ecu_serial, vehicle_id, hardware_id, public_key) VALUES (?, ?, ?, ?)";
        for EnrolledSecondary { ecu_serial, hardware_id, public_key } in secondaries {
            sqlx::query(sql)
                .bind(ecu_serial.as_str())
                .bind(vehicle_id)
                .bind(hardware_id.as_str())
                .bind(String::from_utf8_lossy(&public_to_bytes(public_key)).into_owned())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// Notes what a Secondary reported about itself, or its Primary about it.
    pub async fn save_secondary(&mut self, ecu_serial: &str, state: &SecondaryState) -> Result<(), RegistryError> {
        let installed = state.installed.as_ref().map(serde_json::to_string).transpose();
        let sql = "UPDATE secondaries SET report_counter = ?, installed = ?, trouble = ? WHERE ecu_serial = ?";
        sqlx::query(sql)
            .bind(to_sql(state.report_counter))
            .bind(installed.map_err(|error| RegistryError::corrupt("secondaries", error))?)
            .bind(&state.trouble)
            .bind(ecu_serial)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

fn secondary(row: &SqliteRow) -> Result<Secondary, RegistryError> {
    let corrupt = |error: &dyn core::fmt::Display| RegistryError::corrupt("secondaries", error);
    let (ecu_serial, hardware_id): (&str, &str) = (row.get("ecu_serial"), row.get("hardware_id"));
    let (public_key, installed): (&str, Option<&str>) = (row.get("public_key"), row.get("installed"));
    let ecu = EnrolledSecondary {
        ecu_serial: ecu_serial.parse().map_err(|error| corrupt(&error))?,
        hardware_id: hardware_id.parse().map_err(|error| corrupt(&error))?,
        public_key: parse_public(public_key.as_bytes()).map_err(|error| corrupt(&error))?,
    };
    let state = SecondaryState {
        report_counter: from_sql(row.get("report_counter")),
        installed: installed.map(serde_json::from_str).transpose().map_err(|error| corrupt(&error))?,
        trouble: row.get("trouble"),
    };
    Ok(Secondary { ecu, state })
}
