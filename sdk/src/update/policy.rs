//! When a new model may take over.
//!
//! A policy decides about a release that the Director assigns. A release that was staged or armed when the vehicle was switched off is
//! loaded, tested and run in shadow after the start, but no policy and no order lets it take over until one check since the start has
//! succeeded and still assigns it: the rollout may have been paused or the approval revoked meanwhile. Until then the vehicle drives
//! with the confirmed model, or without one if there is none yet.

/// When a model that passed its tests takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActivationPolicy {
    /// As soon as the driving function is not engaged. Never while it is.
    #[default]
    NextDisengaged,
    /// As soon as the vehicle stands still and the driving function is not engaged.
    NextStandstill,
    /// At the next frame at which the plans agree, also while the driving function is engaged.
    Now,
    /// When the OEM's software says so: then at the next frame at which the plans agree, also while the driving function is engaged.
    Manual,
}

/// At which frames the model that takes over may begin. The policy looks at the vehicle now and then; the frame that swaps comes later, and
/// has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// At those at which the driving function is not engaged.
    Disengaged,
    /// At all of them.
    Anytime,
}

/// Speed below which a vehicle stands still, m/s: wheel speed sensors read up to a tenth of a meter per second at rest.
const STANDSTILL_MPS: f32 = 0.15;

/// What is known of the vehicle. What is not known counts as what is less safe to assume.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VehicleState {
    /// Longitudinal speed, m/s.
    pub speed_mps: Option<f32>,
    /// Whether the driving function is engaged. Not known counts as engaged.
    pub engaged: Option<bool>,
    /// Whether the vehicle is parked. Not known counts as not parked.
    pub parked: Option<bool>,
    /// Whether power suffices for an update. Not known counts as yes: most vehicles can load while they drive.
    pub power_suffices: Option<bool>,
    /// Whether a model drives at all. Without one there is nothing to take over from.
    pub has_model: bool,
    /// Whether frames arrive. Without any, no model can take over, and an order to do so would only wait for a power cut.
    pub has_frames: bool,
}

impl VehicleState {
    fn is_engaged(&self) -> bool {
        self.engaged.unwrap_or(true)
    }

    fn stands_still(&self) -> bool {
        // A speed that is not a number is not known.
        self.parked == Some(true) || self.speed_mps.is_some_and(|speed| speed.abs() < STANDSTILL_MPS)
    }
}

impl ActivationPolicy {
    /// Whether an armed model may take over now.
    pub fn permits(self, vehicle: &VehicleState) -> bool {
        if vehicle.power_suffices == Some(false) {
            return false;
        }
        match self {
            Self::Manual => false,
            Self::Now => true,
            Self::NextDisengaged => !vehicle.has_model || !vehicle.is_engaged(),
            Self::NextStandstill => !vehicle.has_model || (!vehicle.is_engaged() && vehicle.stands_still()),
        }
    }

    /// At which frames a model may take over that is ordered to do so now; none when it may not be ordered.
    pub(super) fn permission(self, vehicle: &VehicleState) -> Option<Permission> {
        let permission = match self {
            Self::Now => Permission::Anytime,
            Self::NextDisengaged | Self::NextStandstill | Self::Manual if vehicle.has_model => Permission::Disengaged,
            Self::NextDisengaged | Self::NextStandstill | Self::Manual => Permission::Anytime,
        };
        Some(permission).filter(|_| self.permits(vehicle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: ActivationPolicy, vehicle: VehicleState, permitted: bool) {
        assert_eq!(policy.permits(&vehicle), permitted, "{policy:?} {vehicle:?}");
    }

    #[test]
    fn a_model_takes_over_only_when_the_policy_permits_it() {
        use ActivationPolicy::{Manual, NextDisengaged, NextStandstill, Now};
        let unknown = VehicleState { has_model: true, has_frames: true, ..VehicleState::default() };
        let engaged = VehicleState { engaged: Some(true), speed_mps: Some(0.0), ..unknown };
        let driving = VehicleState { engaged: Some(false), speed_mps: Some(20.0), ..unknown };
        let standing = VehicleState { engaged: Some(false), speed_mps: Some(0.05), ..unknown };
        let parked = VehicleState { engaged: Some(false), parked: Some(true), ..unknown };
        let not_a_number = VehicleState { engaged: Some(false), speed_mps: Some(f32::NAN), ..unknown };
        let weak = VehicleState { power_suffices: Some(false), ..parked };
        let empty = VehicleState { has_model: false, ..unknown };
        for (vehicle, disengaged, standstill, now) in [
            (unknown, false, false, true),
            (engaged, false, false, true),
            (driving, true, false, true),
            (standing, true, true, true),
            (parked, true, true, true),
            (not_a_number, true, false, true),
            (weak, false, false, false),
            (empty, true, true, true),
        ] {
            check(NextDisengaged, vehicle, disengaged);
            check(NextStandstill, vehicle, standstill);
            check(Now, vehicle, now);
            check(Manual, vehicle, false);
        }
    }
}
