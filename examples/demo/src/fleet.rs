//! The twenty vehicles of the demo.

/// Product level of a vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    Ultra,
    UltraSe,
}

impl Tier {
    pub(crate) const ALL: [Self; 2] = [Self::Ultra, Self::UltraSe];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ultra => "ultra",
            Self::UltraSe => "ultra-se",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ultra => "Ultra",
            Self::UltraSe => "Ultra SE",
        }
    }
}

/// The region where `vla-2` is approved.
pub(crate) const APPROVED: &str = "eu";
/// The region where it is not.
pub(crate) const WAITING: &str = "cn";
/// The driving computer is the same in both tiers: a tier is what the customer bought, and only the signed tier keeps them apart.
pub(crate) const HARDWARE_ID: &str = "drive-a";
pub(crate) const TENANT: &str = "demo-motors";
/// The maker's own test drivers: they see some releases before customers do.
pub(crate) const TRIALS: &str = "demo-motors-trials";

/// What is known of a vehicle when it leaves the factory.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) id: String,
    pub(crate) tier: Tier,
    pub(crate) model_line: &'static str,
    pub(crate) region: &'static str,
    /// Decides its road. A vehicle in the region without approval shares the road of one in the other: the comparison is side by side.
    pub(crate) seed: u64,
    pub(crate) at_night: bool,
    /// The one that runs the C program at the camera's full rate.
    pub(crate) in_c: bool,
}

impl Spec {
    /// Serial number of the driving computer.
    pub(crate) fn ecu_serial(&self) -> String {
        format!("{}-ecu", self.id)
    }

    /// Whose vehicle it is.
    pub(crate) fn tenant(&self) -> &'static str {
        if self.in_c { TRIALS } else { TENANT }
    }

    /// The same road, light and tier in the other region.
    pub(crate) fn is_twin_of(&self, other: &Self) -> bool {
        self.region != other.region && (self.seed, self.tier, self.at_night) == (other.seed, other.tier, other.at_night)
    }
}

/// A road with a bend of at most 150 m radius at least every 80 m.
const C_ROAD_SEED: u64 = 63;
/// The C vehicle drives one road, long enough for the whole demo.
pub(crate) const C_ROAD_LENGTH_M: u32 = 2000;

/// The C vehicle first, then the rest by region.
pub(crate) fn fleet() -> Vec<Spec> {
    use Tier::{Ultra, UltraSe};
    let approved: [(&str, &[Tier]); 3] = [
        ("P7", &[Ultra, Ultra, Ultra, UltraSe]),
        ("G7", &[Ultra, Ultra, Ultra, UltraSe, UltraSe]),
        ("X9", &[Ultra, Ultra, Ultra, UltraSe, UltraSe]),
    ];
    let waiting: [(&str, &[Tier]); 3] = [("P7", &[Ultra, UltraSe]), ("G7", &[Ultra, UltraSe]), ("X9", &[Ultra, UltraSe])];
    let mut specs = Vec::new();
    for (region, lines) in [(APPROVED, approved), (WAITING, waiting)] {
        for (model_line, tiers) in lines {
            for tier in Tier::ALL {
                let count = tiers.iter().filter(|&&of| of == tier).count();
                specs.extend((1..=count).map(|number| spec(region, model_line, tier, number)));
            }
        }
    }
    specs
}

fn spec(region: &'static str, model_line: &'static str, tier: Tier, number: usize) -> Spec {
    let line_seed = match model_line {
        "P7" => 100,
        "G7" => 200,
        _ => 300,
    };
    // The last of its kind in the approved region is the twin of the only one in the other region.
    let kin = match (region, model_line, tier) {
        (WAITING, "P7", Tier::UltraSe) => 1,
        (WAITING, _, Tier::UltraSe) => 2,
        (WAITING, _, Tier::Ultra) => 3,
        _ => number as u64,
    };
    let tier_seed = if tier == Tier::Ultra { 0 } else { 50 };
    let in_c = region == APPROVED && model_line == "P7" && tier == Tier::Ultra && number == 1;
    Spec {
        id: format!("{}-{}-{region}-{number}", model_line.to_lowercase(), tier.name()),
        tier,
        model_line,
        region,
        seed: if in_c { C_ROAD_SEED } else { line_seed + tier_seed + kin },
        at_night: kin == 2,
        in_c,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn twenty_vehicles_two_tiers_three_lines_two_regions_one_in_c() {
        let fleet = fleet();
        let distinct = |of: fn(&Spec) -> String| fleet.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(fleet.len(), 20);
        assert_eq!(distinct(|spec| spec.id.clone()), 20);
        assert_eq!(distinct(|spec| spec.tier.name().to_owned()), 2);
        assert_eq!(distinct(|spec| spec.model_line.to_owned()), 3);
        assert_eq!(distinct(|spec| spec.region.to_owned()), 2);
        assert_eq!(fleet.iter().filter(|spec| spec.in_c).count(), 1);
        assert!(fleet[0].in_c);
    }

    #[test]
    fn every_vehicle_that_waits_has_a_twin_on_the_same_road() {
        let fleet = fleet();
        for waiting in fleet.iter().filter(|spec| spec.region == WAITING) {
            let twin = |spec: &&Spec| spec.is_twin_of(waiting);
            assert_eq!(fleet.iter().filter(twin).count(), 1, "{}", waiting.id);
        }
    }
}
