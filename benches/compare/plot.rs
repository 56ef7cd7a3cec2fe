//! The pictures: throughput and CPU a request as bars, latency by percentiles, memory over entries.

use crate::steady::percentile;
use crate::table::{Measured, Results};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

type Drawn = Result<(), Box<dyn Error>>;

/// Draws what there is something of into a directory.
pub(crate) fn draw(directory: &Path, results: &Results) -> Drawn {
    std::fs::create_dir_all(directory)?;
    if !results.measured.is_empty() {
        let rate = |measured: &Measured| (measured.median(|sample| sample.rate), 0.0);
        bars(&directory.join("throughput.svg"), "Requests a second, with one core for the server", &results.measured, rate, 0)?;
        let cpu = |measured: &Measured| (measured.median(|sample| sample.cpu), measured.median(|sample| sample.redis_cpu));
        bars(&directory.join("cpu.svg"), "Microseconds of CPU a request; lighter: of Redis", &results.measured, cpu, 1)?;
    }
    if !results.latencies.is_empty() {
        latencies(&directory.join("latency.svg"), &results.latencies)?;
    }
    if !results.memory.is_empty() {
        memory(&directory.join("memory.svg"), &results.memory)?;
    }
    Ok(())
}

/// A panel for each work, and in it a bar for each contender: a value, and what comes to it.
fn bars(file: &Path, title: &str, all: &[Measured], value: fn(&Measured) -> (f64, f64), digits: usize) -> Drawn {
    let works: Vec<&[Measured]> = all.chunk_by(|one, next| one.work == next.work).collect();
    let height = |work: &[Measured]| PANEL_HEAD + BAR * work.len() as i32;
    let whole_height = HEAD + works.iter().map(|work| height(work)).sum::<i32>();
    let whole = SVGBackend::new(file, (WIDTH as u32, whole_height as u32)).into_drawing_area();
    whole.fill(&WHITE)?;
    whole.draw(&Text::new(title.to_owned(), (16, 14), text(20)))?;
    let mut top = HEAD;
    for work in works {
        whole.draw(&Text::new(work[0].work.clone(), (16, top), text(15)))?;
        let most = work.iter().map(|measured| value(measured).0 + value(measured).1).fold(f64::MIN_POSITIVE, f64::max);
        for (place, measured) in work.iter().enumerate() {
            let (own, more) = value(measured);
            let (at, end) = (top + 24 + BAR * place as i32, |value: f64| LEFT + (f64::from(LONGEST) * value / most) as i32);
            whole.draw(&Text::new(measured.who.clone(), (24, at + 2), text(13)))?;
            let color = color(&measured.who);
            whole.draw(&Rectangle::new([(LEFT, at), (end(own), at + BAR - 5)], color.filled()))?;
            if more > 0.0 {
                whole.draw(&Rectangle::new([(end(own), at), (end(own + more), at + BAR - 5)], color.mix(0.45).filled()))?;
            }
            whole.draw(&Text::new(format!("{:.digits$}", own + more), (end(own + more) + 6, at + 2), text(13)))?;
        }
        top += height(work);
    }
    whole.present()?;
    Ok(())
}

/// Percentiles, so stretched that each step to the right leaves a tenth of the requests.
fn latencies(file: &Path, all: &[(String, Vec<Duration>)]) -> Drawn {
    let whole = SVGBackend::new(file, (760, 460)).into_drawing_area();
    whole.fill(&WHITE)?;
    let lines: Vec<(&String, Vec<(f64, f64)>)> = all
        .iter()
        .map(|(who, sorted)| {
            let steps = (0..=80).map(|step| f64::from(step) / 20.0);
            (who, steps.map(|step| (step, percentile(sorted, 1.0 - 10_f64.powf(-step)).as_secs_f64() * 1e3)).collect())
        })
        .collect();
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
    let lowest = 10_f64.powf(values().fold(f64::INFINITY, f64::min).max(1e-3).log10().floor());
    let highest = 10_f64.powf(values().fold(lowest * 10.0, f64::max).log10().ceil());
    let mut chart = ChartBuilder::on(&whole)
        .caption("Hits at 20,000 requests a second: latency from the instant that was fixed before", text(17))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..4.0, (lowest..highest).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.5))
        .x_desc("percentile")
        .y_desc("ms")
        .x_labels(5)
        .x_label_formatter(&|step: &f64| match step {
            step if *step < 0.5 => "0".to_owned(),
            step => format!("{}", 100.0 - 10_f64.powf(2.0 - step.round())),
        })
        .y_label_formatter(&|value| format!("{value}"))
        .label_style(text(13))
        .draw()?;
    for (who, points) in lines {
        let color = color(who);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(who.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    labels(&mut chart, SeriesLabelPosition::LowerRight)?;
    whole.present()?;
    Ok(())
}

/// Megabytes over thousands of entries.
fn memory(file: &Path, all: &[(String, Vec<(f64, f64)>)]) -> Drawn {
    let whole = SVGBackend::new(file, (760, 460)).into_drawing_area();
    whole.fill(&WHITE)?;
    let points = || all.iter().flat_map(|(_, points)| points);
    let most = points().fold(1.0, |most: f64, (entries, _)| most.max(*entries)) / 1e3;
    let highest = points().fold(1.0, |most: f64, (_, octets)| most.max(*octets)) / 1e6;
    let mut chart = ChartBuilder::on(&whole)
        .caption("Resident memory over entries of 1 KB (nginx: with its files, which lie in memory)", text(17))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..most, 0.0..highest * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.5))
        .x_desc("thousands of entries")
        .y_desc("MB")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(text(13))
        .draw()?;
    let least = [(0.0, 0.0), (most, most * 1e3 * 1324.0 / 1e6)];
    chart
        .draw_series(LineSeries::new(least, GONE.stroke_width(2)))?
        .label("body + 300 octets each")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], GONE.stroke_width(3)));
    for (who, points) in all {
        let color = color(who);
        let points = points.iter().map(|(entries, octets)| (entries / 1e3, octets / 1e6));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(who.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    labels(&mut chart, SeriesLabelPosition::UpperLeft)?;
    whole.present()?;
    Ok(())
}

fn labels<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>, place: SeriesLabelPosition) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.85))
        .border_style(TRANSPARENT)
        .label_font(text(13))
        .draw()?;
    Ok(())
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Everybody has the same color in all pictures.
fn color(who: &str) -> RGBColor {
    match who {
        "bare hyper" => GONE,
        "nginx" | "nginx+Lua+Redis" => RGBColor(34, 139, 84),
        "HAProxy" => RGBColor(204, 134, 30),
        "Varnish" => RGBColor(142, 90, 170),
        _ => RGBColor(38, 110, 184),
    }
}

const WIDTH: i32 = 760;
const HEAD: i32 = 52;
const PANEL_HEAD: i32 = 40;
const BAR: i32 = 22;
const LEFT: i32 = 260;
const LONGEST: i32 = 420;

const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(226, 228, 232);
const GONE: RGBColor = RGBColor(130, 136, 146);
