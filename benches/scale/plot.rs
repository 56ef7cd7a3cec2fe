//! The picture: what a thousand requests a second for each replica become, over the number of replicas.

use crate::deployment::{Deployment, Load};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// Draws requests, requests of the origin, commands and messages a second.
pub(crate) fn draw(file: &Path, loads: &[(Deployment, Load)]) -> Result<(), Box<dyn Error>> {
    let whole = SVGBackend::new(file, (760, 460)).into_drawing_area();
    whole.fill(&WHITE)?;
    let ink = RGBColor(40, 44, 52);
    let text = |size: i32| ("sans-serif", size).into_font().color(&ink);
    let mut chart = ChartBuilder::on(&whole)
        .caption("A second of one Redis, by the number of replicas", text(18))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..10_000.0).log_scale(), (1.0..1e8).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(226, 228, 232))
        .axis_style(ink.mix(0.5))
        .x_desc("replicas, with a thousand requests a second each")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(text(13))
        .draw()?;
    type Value = fn(&Deployment, &Load) -> f64;
    let lines: [(&str, RGBColor, Value); 4] = [
        ("requests of clients", RGBColor(130, 136, 146), |_, load| load.requests),
        ("messages to replicas", RGBColor(204, 86, 60), |deployment, load| load.messages(deployment.replicas)),
        ("commands of Redis", RGBColor(38, 110, 184), |_, load| load.commands()),
        ("requests of the origin", RGBColor(34, 139, 84), |_, load| load.fetches),
    ];
    for (label, color, value) in lines {
        let points = loads.iter().map(|(deployment, load)| (f64::from(deployment.replicas), value(deployment, load).max(1.0)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(TRANSPARENT)
        .label_font(text(13))
        .draw()?;
    whole.present()?;
    Ok(())
}
