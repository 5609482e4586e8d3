use super::axis::Axis;
use super::svg::{Svg, number};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// Where the note of an upright mark stands, from the top: below what is written along lines that cross near the upper edge.
const UPRIGHT_NOTE: f64 = 0.3;

/// What a mark stands for; the style sheet gives it a color (class `t-...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    First,
    Second,
    Third,
    Good,
    Busy,
    Waiting,
    Bad,
    Ink,
    Ground,
}

impl Tone {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::First => "t-first",
            Self::Second => "t-second",
            Self::Third => "t-third",
            Self::Good => "t-good",
            Self::Busy => "t-busy",
            Self::Waiting => "t-waiting",
            Self::Bad => "t-bad",
            Self::Ink => "t-ink",
            Self::Ground => "t-ground",
        }
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineStyle {
    Thin,
    Thick,
    Dashed,
}

impl LineStyle {
    fn class(self) -> &'static str {
        match self {
            Self::Thin => "line thin",
            Self::Thick => "line thick",
            Self::Dashed => "line dashed",
        }
    }
}

/// Where a note stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corner {
    Left,
    Right,
}

enum Mark {
    Line { tone: Tone, style: LineStyle, points: Vec<(f64, f64)> },
    Area { tone: Tone, outline: Vec<(f64, f64)> },
    Dots { tone: Tone, points: Vec<(f64, f64)> },
    Across { tone: Tone, y: f64, text: String },
    Upright { tone: Tone, x: f64, text: String, corner: Corner },
    Flag { tone: Tone, at: (f64, f64), text: String, corner: Corner },
}

#[derive(Clone, Copy)]
enum Sample {
    Line,
    Area,
    Dot,
}

/// A chart: marks are drawn in the order in which they are added.
pub(crate) struct Chart {
    id: &'static str,
    title: String,
    x: Axis,
    y: Axis,
    plot_height: f64,
    marks: Vec<Mark>,
    legend: Vec<(Tone, Sample, String)>,
}

impl Chart {
    /// `id` must be unique in the document; it names the clip path.
    pub(crate) fn new(id: &'static str, title: &str, x: Axis, y: Axis) -> Self {
        Self { id, title: title.to_owned(), x, y, plot_height: 220.0, marks: Vec::new(), legend: Vec::new() }
    }

    #[must_use]
    pub(crate) fn with_plot_height(mut self, pixels: f64) -> Self {
        self.plot_height = pixels;
        self
    }

    /// Makes a meter as long upwards as sideways: the height follows from the two ranges.
    #[must_use]
    pub(crate) fn with_equal_scales(mut self) -> Self {
        self.plot_height = (WIDTH - LEFT - RIGHT) * (self.y.max - self.y.min) / (self.x.max - self.x.min);
        self
    }

    pub(crate) fn line(&mut self, tone: Tone, style: LineStyle, points: Vec<(f64, f64)>) {
        self.marks.push(Mark::Line { tone, style, points });
    }

    pub(crate) fn area(&mut self, tone: Tone, outline: Vec<(f64, f64)>) {
        self.marks.push(Mark::Area { tone, outline });
    }

    pub(crate) fn dots(&mut self, tone: Tone, points: Vec<(f64, f64)>) {
        self.marks.push(Mark::Dots { tone, points });
    }

    /// A dashed line over the whole width, such as a limit.
    pub(crate) fn across(&mut self, tone: Tone, y: f64, text: &str) {
        self.marks.push(Mark::Across { tone, y, text: text.to_owned() });
    }

    /// A dashed line over the whole height, such as a moment.
    pub(crate) fn upright(&mut self, tone: Tone, x: f64, text: &str, corner: Corner) {
        self.marks.push(Mark::Upright { tone, x, text: text.to_owned(), corner });
    }

    /// A ringed point with a note.
    pub(crate) fn flag(&mut self, tone: Tone, at: (f64, f64), text: &str, corner: Corner) {
        self.marks.push(Mark::Flag { tone, at, text: text.to_owned(), corner });
    }

    pub(crate) fn legend_line(&mut self, tone: Tone, text: &str) {
        self.legend.push((tone, Sample::Line, text.to_owned()));
    }

    pub(crate) fn legend_area(&mut self, tone: Tone, text: &str) {
        self.legend.push((tone, Sample::Area, text.to_owned()));
    }

    pub(crate) fn legend_dot(&mut self, tone: Tone, text: &str) {
        self.legend.push((tone, Sample::Dot, text.to_owned()));
    }

    /// The chart as one `<svg>` element.
    pub(crate) fn render(&self) -> String {
        let mut svg = Svg::new(WIDTH, TOP + self.plot_height + BOTTOM);
        svg.clip_rectangle(self.id, [LEFT, TOP, WIDTH - LEFT - RIGHT, self.plot_height]);
        self.draw_grid(&mut svg);
        let clip = format!("url(#{})", self.id);
        svg.group(&[("clip-path", &clip)], |svg| self.marks.iter().for_each(|mark| self.draw_shape(svg, mark)));
        self.marks.iter().for_each(|mark| self.draw_text(&mut svg, mark));
        self.draw_legend(&mut svg);
        svg.finish(&self.title)
    }

    fn x_pixel(&self, value: f64) -> f64 {
        LEFT + self.x.fraction(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_pixel(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.fraction(value)) * self.plot_height
    }

    fn bottom(&self) -> f64 {
        TOP + self.plot_height
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let text: Vec<String> = points.iter().map(|&(x, y)| format!("{},{}", number(self.x_pixel(x)), number(self.y_pixel(y)))).collect();
        text.join(" ")
    }

    fn draw_grid(&self, svg: &mut Svg) {
        let (left, right) = (number(LEFT), number(WIDTH - RIGHT));
        for tick in self.y.ticks() {
            let y = number(self.y_pixel(tick));
            svg.element("line", &[("class", "grid"), ("x1", &left), ("x2", &right), ("y1", &y), ("y2", &y)]);
            let text_y = number(self.y_pixel(tick) + 4.0);
            svg.text(&[("class", "tick end"), ("x", &number(LEFT - 8.0)), ("y", &text_y)], &self.y.text(tick));
        }
        for tick in self.x.ticks() {
            let x = number(self.x_pixel(tick));
            svg.element("line", &[("class", "grid"), ("x1", &x), ("x2", &x), ("y1", &number(TOP)), ("y2", &number(self.bottom()))]);
            svg.text(&[("class", "tick middle"), ("x", &x), ("y", &number(self.bottom() + 17.0))], &self.x.text(tick));
        }
        let bottom = number(self.bottom());
        svg.element("line", &[("class", "axis"), ("x1", &left), ("x2", &right), ("y1", &bottom), ("y2", &bottom)]);
        let middle = number((LEFT + WIDTH - RIGHT) / 2.0);
        svg.text(&[("class", "label middle"), ("x", &middle), ("y", &number(self.bottom() + 38.0))], &self.x.title());
        let turn = format!("translate(16 {}) rotate(-90)", number(TOP + self.plot_height / 2.0));
        svg.text(&[("class", "label middle"), ("transform", &turn)], &self.y.title());
    }

    fn draw_shape(&self, svg: &mut Svg, mark: &Mark) {
        match mark {
            Mark::Line { tone, style, points } => {
                let class = format!("{} {}", style.class(), tone.class());
                svg.element("polyline", &[("class", &class), ("points", &self.path(points))]);
            }
            Mark::Area { tone, outline } => {
                svg.element("polygon", &[("class", &format!("area {}", tone.class())), ("points", &self.path(outline))]);
            }
            Mark::Dots { tone, points } => self.draw_dots(svg, *tone, points),
            Mark::Across { tone, y, .. } => {
                let y = number(self.y_pixel(*y));
                let class = format!("line dashed {}", tone.class());
                svg.element("line", &[("class", &class), ("x1", &number(LEFT)), ("x2", &number(WIDTH - RIGHT)), ("y1", &y), ("y2", &y)]);
            }
            Mark::Upright { tone, x, .. } => {
                let x = number(self.x_pixel(*x));
                let class = format!("line dashed {}", tone.class());
                svg.element("line", &[("class", &class), ("x1", &x), ("x2", &x), ("y1", &number(TOP)), ("y2", &number(self.bottom()))]);
            }
            Mark::Flag { tone, at, .. } => {
                let (x, y) = (number(self.x_pixel(at.0)), number(self.y_pixel(at.1)));
                svg.element("circle", &[("class", &format!("ring {}", tone.class())), ("cx", &x), ("cy", &y), ("r", "6")]);
            }
        }
    }

    fn draw_dots(&self, svg: &mut Svg, tone: Tone, points: &[(f64, f64)]) {
        let class = format!("dots {}", tone.class());
        // One path of zero-length round-capped strokes draws a thousand dots in a fraction of the bytes of as many circles.
        let data: Vec<String> =
            points.iter().map(|&(x, y)| format!("M{} {}h0", number(self.x_pixel(x)), number(self.y_pixel(y)))).collect();
        svg.element("path", &[("class", &class), ("d", &data.join(""))]);
    }

    /// Notes are drawn after all shapes and outside the clip, so that nothing covers or cuts them.
    fn draw_text(&self, svg: &mut Svg, mark: &Mark) {
        match mark {
            Mark::Across { y, text, .. } => self.draw_note(svg, (LEFT, self.y_pixel(*y) - 5.0), text, Corner::Right),
            Mark::Upright { x, text, corner, .. } => {
                self.draw_note(svg, (self.x_pixel(*x), TOP + UPRIGHT_NOTE * self.plot_height), text, *corner);
            }
            Mark::Flag { at, text, corner, .. } => self.draw_note(svg, (self.x_pixel(at.0), self.y_pixel(at.1) - 12.0), text, *corner),
            Mark::Line { .. } | Mark::Area { .. } | Mark::Dots { .. } => {}
        }
    }

    fn draw_note(&self, svg: &mut Svg, at: (f64, f64), text: &str, corner: Corner) {
        let (class, dx) = match corner {
            Corner::Left => ("note end", -7.0),
            Corner::Right => ("note", 7.0),
        };
        svg.text(&[("class", class), ("x", &number(at.0 + dx)), ("y", &number(at.1))], text);
    }

    fn draw_legend(&self, svg: &mut Svg) {
        let mut x = LEFT;
        for (tone, sample, text) in &self.legend {
            let class = |kind: &str| format!("{kind} {}", tone.class());
            match sample {
                Sample::Line => {
                    let ends = [
                        ("class", class("line thick")),
                        ("x1", number(x)),
                        ("x2", number(x + 18.0)),
                        ("y1", "16".into()),
                        ("y2", "16".into()),
                    ];
                    svg.element("line", &ends.each_ref().map(|(key, value)| (*key, value.as_str())));
                }
                Sample::Area => {
                    let place = [
                        ("class", class("area")),
                        ("x", number(x + 2.0)),
                        ("y", "10".into()),
                        ("width", "14".into()),
                        ("height", "12".into()),
                    ];
                    svg.element("rect", &place.each_ref().map(|(key, value)| (*key, value.as_str())));
                }
                Sample::Dot => {
                    let place = [("class", class("dots big")), ("d", format!("M{} 16h0", number(x + 9.0)))];
                    svg.element("path", &place.each_ref().map(|(key, value)| (*key, value.as_str())));
                }
            }
            svg.text(&[("class", "legend"), ("x", &number(x + 24.0)), ("y", "20")], text);
            // No font metrics here: 6.6 px is the mean advance of the 12 px system font, a little generously.
            x += 24.0 + text.chars().count() as f64 * 6.6 + 20.0;
        }
    }
}
