//! The picture: latency over time, a panel for each fault, with the run without Redis behind it.

use crate::harness::{Observed, Sample};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all that was observed; the first is the run without Redis.
pub(crate) fn draw(file: &Path, observed: &[Observed]) -> Result<(), Box<dyn Error>> {
    let Some((baseline, faults)) = observed.split_first() else { return Ok(()) };
    let columns = COLUMNS.min(faults.len().max(1));
    let rows = faults.len().div_ceil(columns).max(1);
    let size = ((columns as u32 * WIDTH).max(WIDTH_MIN), HEAD + rows as u32 * HEIGHT);
    let whole = SVGBackend::new(file, size).into_drawing_area();
    whole.fill(&WHITE)?;
    let (head, body) = whole.split_vertically(HEAD);
    draw_head(&head)?;
    let scale = Scale::of(observed);
    let baseline = Bins::of(&baseline.samples);
    for (panel, fault) in body.split_evenly((rows, columns)).iter().zip(faults) {
        draw_panel(panel, fault, &baseline, scale)?;
    }
    whole.present()?;
    Ok(())
}

/// Powers of ten, in milliseconds, between which all latencies lie: one scale for all panels.
#[derive(Clone, Copy)]
struct Scale {
    lowest: f64,
    highest: f64,
}

impl Scale {
    fn of(observed: &[Observed]) -> Scale {
        let latencies = || observed.iter().flat_map(|one| &one.samples).map(|sample| sample.latency.as_secs_f64() * 1e3);
        let (lowest, highest) = (latencies().fold(1.0, f64::min), latencies().fold(10.0, f64::max));
        Scale { lowest: 10_f64.powf(lowest.log10().floor()), highest: 10_f64.powf(highest.log10().ceil()) }
    }
}

/// Latencies in milliseconds, half a second after the other: its middle in seconds, and what half of the requests, all but a hundredth,
/// and all of them did not exceed.
struct Bins(Vec<(f64, [f64; 3])>);

impl Bins {
    fn of(samples: &[Sample]) -> Bins {
        let bin = |sample: &Sample| (sample.at.as_secs_f64() / BIN) as usize;
        // Of a bin that the end has cut short, a hundredth is nothing.
        let whole = |samples: &&[Sample]| samples.len() >= 20;
        let bins = samples.chunk_by(|one, next| bin(one) == bin(next)).filter(whole).map(|samples| {
            let mut latencies: Vec<Duration> = samples.iter().map(|sample| sample.latency).collect();
            latencies.sort_unstable();
            let at =
                |share: f64| latencies[((latencies.len() as f64 * share) as usize).min(latencies.len() - 1)].as_secs_f64() * 1e3;
            ((bin(&samples[0]) as f64 + 0.5) * BIN, [at(0.5), at(0.99), at(1.0)])
        });
        Bins(bins.collect())
    }

    fn line(&self, which: usize) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().map(move |(at, latencies)| (*at, latencies[which]))
    }
}

fn draw_head(head: &Panel<'_>) -> Result<(), Box<dyn Error>> {
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    head.draw(&Text::new("What clients notice when something happens to Redis", (16, 14), text(22)))?;
    let says = format!("Latency in milliseconds (logarithmic) over seconds, in steps of half a second.{}", crate::BUILD);
    head.draw(&Text::new(says, (16, 44), text(14)))?;
    for (place, (color, label)) in [(P99, "p99"), (P50, "p50"), (BEHIND, "p50 and p99 without Redis")].into_iter().enumerate() {
        let x = 16 + [0, 90, 180][place];
        head.draw(&PathElement::new([(x, 76), (x + 22, 76)], color.stroke_width(3)))?;
        head.draw(&Text::new(label, (x + 28, 69), text(14)))?;
    }
    head.draw(&Circle::new((437, 76), 2, MAX.filled()))?;
    head.draw(&Text::new("slowest", (446, 69), text(14)))?;
    head.draw(&Rectangle::new([(530, 68), (552, 84)], FAULT.filled()))?;
    head.draw(&Text::new("the fault", (558, 69), text(14)))?;
    Ok(())
}

fn draw_panel(panel: &Panel<'_>, fault: &Observed, baseline: &Bins, scale: Scale) -> Result<(), Box<dyn Error>> {
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let bins = Bins::of(&fault.samples);
    let end = fault.ended.as_secs_f64();
    let wrong = match fault.wrongs.number {
        0 => String::new(),
        number => format!(" – {number} wrong answers"),
    };
    panel.draw(&Text::new(format!("{}{wrong}", fault.fault.name), (54, 6), text(15)))?;
    let mut chart = ChartBuilder::on(panel)
        .margin_top(28)
        .margin_right(14)
        .x_label_area_size(22)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, (scale.lowest..scale.highest).log_scale())?;
    let over = fault.over.as_secs_f64();
    chart.draw_series([Rectangle::new([(fault.broken.as_secs_f64(), scale.lowest), (over, scale.highest)], FAULT.filled())])?;
    let power = |value: &f64| match value {
        v if *v >= 1.0 => format!("{v:.0}"),
        v => format!("{v}"),
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.5))
        .x_labels(7)
        .y_labels(5)
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_label_formatter(&power)
        .label_style(text(12))
        .draw()?;
    for which in [0, 1] {
        let within = baseline.line(which).filter(|(at, _)| *at <= end);
        chart.draw_series(LineSeries::new(within, BEHIND.stroke_width(2)))?;
    }
    chart.draw_series(bins.line(2).map(|at| Circle::new(at, 2, MAX.filled())))?;
    for (which, color) in [(0, P50), (1, P99)] {
        chart.draw_series(LineSeries::new(bins.line(which), color.stroke_width(2)))?;
    }
    Ok(())
}

const COLUMNS: usize = 3;
const WIDTH: u32 = 420;
const WIDTH_MIN: u32 = 640;
const HEIGHT: u32 = 190;
const HEAD: u32 = 100;

/// Seconds.
const BIN: f64 = 0.5;

const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(226, 228, 232);
const P50: RGBColor = RGBColor(31, 119, 180);
const P99: RGBColor = RGBColor(196, 62, 28);
const MAX: RGBColor = RGBColor(120, 120, 128);
const BEHIND: RGBColor = RGBColor(176, 182, 190);
const FAULT: RGBColor = RGBColor(253, 240, 213);
