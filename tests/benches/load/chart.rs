//! Bars as SVG.

use std::fmt::Write;

use crate::results::Measure;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 190.0;
/// Of the largest bar; its figure stands behind it.
const BAR_MAX: f64 = 370.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;
/// Ours, and all others.
const COLOURS: [&str; 2] = ["#1b6ca8", "#b8c4cc"];

/// One picture: a bar for each path, those of Cloak in another colour.
pub(crate) fn bars(measure: Measure, bars: &[(&str, f64)]) -> String {
    let largest = bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
    let height = TOP + ROW * bars.len() as f64 + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"14\">{}, {}</text>\n",
        measure.name, measure.unit
    );
    let mut y = TOP;
    for (name, figure) in bars {
        let (length, colour) =
            (BAR_MAX * figure / largest, COLOURS[usize::from(!name.starts_with("Cloak"))]);
        let (middle, digits) = (y + 14.0, usize::from(measure.digits));
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"18\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{figure:.digits$}</text>",
            LEFT - 8.0,
            LEFT + length + 6.0,
        );
        y += ROW;
    }
    out + "</svg>\n"
}
