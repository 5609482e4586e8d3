//! `report.html`: one file with everything in it, light or dark as the reader's system is.

mod charts;

use std::fmt::Write as _;

use crate::frames::Frame;
use crate::ledger::Claim;
use crate::plot::{Tone, escape};
use crate::stage::Wave;

/// Everything that the report shows.
pub(crate) struct Report {
    pub(crate) tiles: Vec<Tile>,
    pub(crate) titles: Vec<String>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) hero: Option<Hero>,
    pub(crate) comparison: Vec<Comparison>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) fleet: Vec<FleetRow>,
    pub(crate) footer: String,
}

/// A figure on top of the page.
pub(crate) struct Tile {
    pub(crate) value: String,
    pub(crate) text: String,
}

/// The drive of the vehicle that swaps in a bend.
pub(crate) struct Hero {
    pub(crate) vehicle: String,
    pub(crate) frames: Vec<Frame>,
    /// Index in `frames` of the first answer of the new model.
    pub(crate) swap: usize,
    /// Curvature of the road at the swap, 1/m, left positive.
    pub curvature_1pm: f64,
    pub(crate) deadline_ms: f64,
    /// Right edge, middle line and left edge of the road, in the frames' coordinates.
    pub(crate) edges: [Vec<(f64, f64)>; 3],
}

/// One measure of two models.
pub(crate) struct Comparison {
    pub(crate) what: String,
    pub(crate) first: String,
    pub(crate) second: String,
    pub(crate) better: String,
}

/// How many vehicles were in which state over time.
pub(crate) struct Progress {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// Time in seconds, then the number of vehicles in each of [`STATES`].
    pub(crate) samples: Vec<(f64, [usize; STATES.len()])>,
    pub(crate) moments: Vec<(f64, String)>,
}

/// What a vehicle does in a rollout, from the bottom of the plot to its top.
pub(crate) const STATES: [(Tone, &str); 6] = [
    (Tone::Good, "confirmed"),
    (Tone::Bad, "refused or fell back"),
    (Tone::Third, "on trial"),
    (Tone::First, "in shadow"),
    (Tone::Busy, "downloads, self-test"),
    (Tone::Waiting, "not reached, or no approval"),
];

impl Progress {
    /// The numbers of one moment, in the order of [`STATES`].
    pub(crate) fn sample<'a>(waves: impl Iterator<Item = &'a Wave>) -> [usize; STATES.len()] {
        waves.fold([0; STATES.len()], |sum, wave| {
            let (trial, shadow) = (wave.at(&["trial"]), wave.at(&["shadow", "armed"]));
            let busy = wave.offered - wave.confirmed - wave.failed - trial - shadow;
            let counts = [wave.confirmed, wave.failed, trial, shadow, busy, wave.selected - wave.offered];
            std::array::from_fn(|index| sum[index] + counts[index])
        })
    }
}

/// A vehicle at the end.
pub(crate) struct FleetRow {
    pub(crate) vehicle: String,
    pub(crate) tier: String,
    pub(crate) model_line: String,
    pub(crate) region: String,
    pub(crate) model: String,
    pub(crate) state: String,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn to_html(&self) -> String {
        let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.push_str(
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Switchback demo</title>\n<style>\n",
        );
        page.push_str(include_str!("style.css"));
        page.push_str("</style>\n</head>\n<body>\n<main>\n<h1>A driving model reaches a moving fleet</h1>\n");
        page.push_str("<p class=\"lead\">Real programs on this machine: one server, one release engineer's desk, twenty vehicles that drive a simulated road from camera pixels.</p>\n");
        self.write_tiles(&mut page);
        if let Some(hero) = &self.hero {
            write_hero(&mut page, hero);
        }
        self.write_comparison(&mut page);
        self.write_progress(&mut page);
        self.write_claims(&mut page);
        self.write_fleet(&mut page);
        let _ = writeln!(page, "<footer>{}</footer>\n</main>\n</body>\n</html>", escape(&self.footer));
        page
    }

    fn write_tiles(&self, page: &mut String) {
        page.push_str("<div class=\"tiles\">\n");
        for tile in &self.tiles {
            let _ = writeln!(page, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&tile.value), escape(&tile.text));
        }
        page.push_str("</div>\n");
    }

    fn write_claims(&self, page: &mut String) {
        open_card(page, "Every claim, as it was checked", "The demo ends with an error at the first claim that does not hold.");
        page.push_str("<table class=\"claims\">\n<tr><th>Claim</th><th>Measured</th><th></th></tr>\n");
        for (index, title) in self.titles.iter().enumerate() {
            let _ = writeln!(page, "<tr class=\"group\"><td colspan=\"3\">{}. {}</td></tr>", index + 1, escape(title));
            for claim in self.claims.iter().filter(|claim| claim.step == index + 1) {
                let (class, word) = if claim.holds { ("good", "holds") } else { ("bad", "does not hold") };
                let _ = writeln!(
                    page,
                    "<tr><td>{}</td><td>{}</td><td><span class=\"badge {class}\">{word}</span></td></tr>",
                    escape(&claim.text),
                    escape(&claim.measured)
                );
            }
        }
        page.push_str("</table>\n</section>\n");
    }

    fn write_comparison(&self, page: &mut String) {
        if self.comparison.is_empty() {
            return;
        }
        open_card(
            page,
            "vla-2 against vla-1",
            "Twins: each vehicle in the region without approval stays on vla-1 and has a sister with the same road, light and tier that went to vla-2.",
        );
        page.push_str("<table>\n<tr><th>Measure</th><th class=\"number\">vla-1</th><th class=\"number\">vla-2</th><th class=\"number\">Difference</th></tr>\n");
        for row in &self.comparison {
            let cells: String =
                [&row.first, &row.second, &row.better].map(|cell| format!("<td class=\"number\">{}</td>", escape(cell))).concat();
            let _ = writeln!(page, "<tr><td>{}</td>{cells}</tr>", escape(&row.what));
        }
        page.push_str("</table>\n</section>\n");
    }

    fn write_progress(&self, page: &mut String) {
        if self.progress.is_empty() {
            return;
        }
        open_card(page, "Rollouts", "Vehicles by state as the server learned it from their signed reports.");
        for progress in &self.progress {
            let _ = writeln!(page, "<h3>{}</h3>", escape(&progress.title));
            page.push_str(&charts::progress(progress));
        }
        page.push_str("</section>\n");
    }

    fn write_fleet(&self, page: &mut String) {
        if self.fleet.is_empty() {
            return;
        }
        open_card(page, "The fleet at the end", "What each vehicle last reported about itself.");
        page.push_str("<table class=\"fleet\">\n<tr><th>Vehicle</th><th>Tier</th><th>Line</th><th>Region</th><th>Model</th><th>Last update</th><th>Reason</th></tr>\n");
        for row in &self.fleet {
            let class = match row.state.as_str() {
                "confirmed" => "good",
                "refused" | "rolled-back" => "bad",
                _ => "waiting",
            };
            let _ = writeln!(
                page,
                "<tr><td class=\"mono\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"mono\">{}</td><td><span class=\"badge {class}\">{}</span></td><td>{}</td></tr>",
                escape(&row.vehicle),
                escape(&row.tier),
                escape(&row.model_line),
                escape(&row.region),
                escape(&row.model),
                escape(&row.state.replace('-', " ")),
                escape(&row.reason)
            );
        }
        page.push_str("</table>\n</section>\n");
    }
}

fn write_hero(page: &mut String, hero: &Hero) {
    let radius_m = 1.0 / hero.curvature_1pm.abs().max(1e-6);
    let side = if hero.curvature_1pm > 0.0 { "left" } else { "right" };
    let text = format!(
        "The C vehicle {} in a {side} bend of {radius_m:.0} m radius, seen in its own axes at the moment of the swap.",
        hero.vehicle
    );
    open_card(page, "Hot swap in a bend", &text);
    page.push_str(&charts::path(hero));
    page.push_str("<p></p><p>Distance of the rear axle from the middle of the lane over the whole drive.</p>\n");
    page.push_str(&charts::lane_offset(hero));
    page.push_str("</section>\n");
    open_card(page, "Step latency", "From the camera frame to the checked output, measured in the C program around every step.");
    page.push_str(&charts::latency(hero));
    page.push_str("</section>\n");
}

fn open_card(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, "<section class=\"card\">\n<h2>{}</h2>\n<p>{}</p>", escape(title), escape(text));
}

#[cfg(test)]
mod tests;
