//! Curves as SVG, kept beside the figures.

use std::fs;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;

use super::{sample::Sample, scan::Curve};
use crate::workspace;

const FOLDER: &str = "docs/bench";
const SIZE: (u32, u32) = (760, 420);
const TEXT: (&str, u32) = ("sans-serif", 14);

/// Colours that are told apart by those who see red and green alike (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
];

/// CPU milliseconds per scan by the number of processes. Gives the file's path in the checkout.
pub(super) fn scans(curves: &[Curve]) -> Result<String> {
    let curves: Vec<_> = curves.iter().map(|(name, points)| (*name, points.clone())).collect();
    draw("scan.svg", ["idle processes", "CPU ms per scan"], &curves)
}

/// The share of sprints that had their SIGTERM by then. Gives the file's path in the checkout.
pub(super) fn latencies(curves: &[(String, Sample)]) -> Result<String> {
    let share = |sample: &Sample| {
        let count = sample.len() as f64;
        (1_u32..).zip(sample.figures()).map(|(rank, &ms)| (ms, f64::from(rank) / count * 100.0)).collect()
    };
    let curves: Vec<(&str, Vec<_>)> =
        curves.iter().map(|(name, sample)| (name.as_str(), share(sample))).collect();
    draw("crossing.svg", ["ms from crossing to SIGTERM", "% of sprints"], &curves)
}

/// Lines over a logarithmic x axis, with a logarithmic y axis unless that is in percent.
fn draw(file: &str, axes: [&str; 2], curves: &[(&str, Vec<(f64, f64)>)]) -> Result<String> {
    let folder = workspace::root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(file);
    let points = || curves.iter().flat_map(|(_, points)| points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let bounds = |axis: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            points().map(axis).fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)));
        low / 1.2..high * 1.2
    };
    let (x, y) = (bounds(|point| point.0), bounds(|point| point.1));
    let percent = axes[1].starts_with('%');
    let y = if percent { 1.0..110.0 } else { y };

    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut builder = ChartBuilder::on(&area);
    builder.margin(12).x_label_area_size(44).y_label_area_size(60);
    macro_rules! chart {
        ($y:expr) => {{
            let mut chart = builder.build_cartesian_2d(x.log_scale(), $y).map_err(|error| failed(&error))?;
            chart
                .configure_mesh()
                .x_desc(axes[0])
                .y_desc(axes[1])
                .label_style(TEXT)
                .light_line_style(RGBColor(240, 240, 240))
                .draw()
                .map_err(|error| failed(&error))?;
            for ((name, points), colour) in curves.iter().zip(COLOURS) {
                let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(2);
                chart
                    .draw_series(line)
                    .map_err(|error| failed(&error))?
                    .label(*name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.85))
                .label_font(TEXT)
                .draw()
                .map_err(|error| failed(&error))?;
        }};
    }
    if percent {
        chart!(y);
    } else {
        chart!(y.log_scale());
    }
    area.present().map_err(|error| failed(&error))?;
    Ok(format!("{FOLDER}/{file}"))
}
