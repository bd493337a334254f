//! Plots as SVG, written by hand: lines over a number of peers, seconds, or percent of peers.

use std::fmt::Write;

use crate::scenario::Series;

/// Size of a picture, and its margins.
const SIZE: (f64, f64) = (640.0, 400.0);
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const TOP: f64 = 36.0;
const RIGHT: f64 = 24.0;
/// Lines are told apart by colour, and by the order of the legend.
const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#588157", "#7b4b94", "#b08900", "#444444"];
/// Above this ratio of the largest to the smallest, the horizontal axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;
/// Steps of an axis.
const TICKS: usize = 5;

/// From values to places in the picture.
struct Scale {
    logarithmic: bool,
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

/// One picture with these lines, all of one plot.
pub fn svg(title: &str, axis: &str, series: &[&Series]) -> String {
    let points = || series.iter().flat_map(|one| &one.points).filter(|point| point.1.is_finite());
    let xs: Vec<f64> = points().map(|point| point.0).collect();
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let x = Scale::across(&xs);
    let y =
        Scale { logarithmic: false, from: 0.0, to: nice(top), begin: SIZE.1 - BOTTOM, end: TOP };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    text(&mut out, (LEFT, 20.0), "start", title);
    text(&mut out, (SIZE.0 / 2.0, SIZE.1 - 10.0), "middle", axis);
    for value in y.ticks() {
        let at = y.place(value);
        line(&mut out, (LEFT, at), (SIZE.0 - RIGHT, at), "#dddddd");
        text(&mut out, (LEFT - 6.0, at + 4.0), "end", &number(value));
    }
    for value in x.ticks() {
        text(&mut out, (x.place(value), SIZE.1 - BOTTOM + 18.0), "middle", &number(value));
    }
    for (at, one) in series.iter().enumerate() {
        curve(&mut out, one, at, &x, &y);
    }
    out + "</svg>\n"
}

fn curve(out: &mut String, series: &Series, at: usize, x: &Scale, y: &Scale) {
    let colour = COLOURS[at % COLOURS.len()];
    let finite = series.points.iter().filter(|point| point.1.is_finite());
    let places: Vec<String> =
        finite.map(|point| format!("{:.1},{:.1}", x.place(point.0), y.place(point.1))).collect();
    let joined = places.join(" ");
    out.push_str("<polyline fill=\"none\" stroke-width=\"2\" ");
    let _ = writeln!(out, "stroke=\"{colour}\" points=\"{joined}\"/>");
    let label = (SIZE.0 - RIGHT - 130.0, TOP + 16.0 + 16.0 * at as f64);
    line(out, label, (label.0 + 20.0, label.1), colour);
    text(out, (label.0 + 26.0, label.1 + 4.0), "start", &series.line);
}

impl Scale {
    fn across(values: &[f64]) -> Self {
        let from = values.iter().copied().fold(f64::INFINITY, f64::min);
        let to = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (from, to) = if from < to { (from, to) } else { (0.0, to.max(1.0)) };
        let logarithmic = from > 0.0 && to / from >= LOGARITHMIC_FROM;
        Self { logarithmic, from, to, begin: LEFT, end: SIZE.0 - RIGHT }
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.begin + part * (self.end - self.begin)
    }

    fn ticks(&self) -> Vec<f64> {
        let part = |at: usize| at as f64 / TICKS as f64;
        if self.logarithmic {
            let powers = (-3..9).map(|power| 10f64.powi(power));
            return powers.filter(|value| (self.from..=self.to).contains(value)).collect();
        }
        (0..=TICKS).map(|at| self.from + part(at) * (self.to - self.from)).collect()
    }
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn nice(top: f64) -> f64 {
    let powers = (-3..12).map(|power| 10f64.powi(power));
    let steps = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    steps.filter(|step| *step >= top).fold(f64::INFINITY, f64::min).min(1e12)
}

fn number(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let (x, y) = at;
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>");
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_inside_the_picture_and_missing_ones_are_left_out() {
        let points = vec![(1000.0, 5.0), (10_000.0, f64::NAN), (100_000.0, 7.0)];
        let series = Series { plot: "routes", line: "mean < p95".to_owned(), points };
        let picture = svg("route", "peers", &[&series]);
        assert!(picture.contains("points=\"64.0,194.0 616.0,130.8\""), "{picture}");
        assert!(picture.contains("mean &lt; p95") && picture.contains(">10000<"));
        assert_eq!((nice(7.0), nice(0.3), nice(20.0)), (10.0, 0.5, 20.0));
    }
}
