use std::fmt::Write as _;

/// An SVG document under construction.
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    /// One element; attribute values are escaped.
    pub(super) fn element(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.open(name, attributes, "/>");
    }

    pub(super) fn text(&mut self, attributes: &[(&str, &str)], text: &str) {
        self.open("text", attributes, ">");
        self.body.push_str(&escape(text));
        self.body.push_str("</text>\n");
    }

    /// `content` of another document, clipped to the rectangle named `clip`.
    pub(super) fn group(&mut self, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        self.open("g", attributes, ">\n");
        content(self);
        self.body.push_str("</g>\n");
    }

    pub(super) fn clip_rectangle(&mut self, id: &str, rectangle: [f64; 4]) {
        let [x, y, width, height] = rectangle.map(number);
        let _ = writeln!(
            self.body,
            r#"<defs><clipPath id="{}"><rect x="{x}" y="{y}" width="{width}" height="{height}"/></clipPath></defs>"#,
            escape(id)
        );
    }

    pub(super) fn finish(self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            number(self.width),
            number(self.height),
            escape(label),
            self.body
        )
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        let _ = write!(self.body, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.body, " {key}=\"{}\"", escape(value));
        }
        self.body.push_str(end);
        if end == "/>" {
            self.body.push('\n');
        }
    }
}

/// A coordinate with a tenth of a pixel, which is finer than anybody sees and keeps the file small.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Text for an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
