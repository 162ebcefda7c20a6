//! A log-log plot for the terminal.

/// One series of the plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name, shown beside its mark.
    pub name: String,
    /// Points (x, y); those that are not positive and finite are left out.
    pub points: Vec<(f64, f64)>,
    /// A fitted line through them, as points; may be empty.
    pub line: Vec<(f64, f64)>,
}

/// What to plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Under the x axis.
    pub x_label: String,
    /// Over the y axis.
    pub y_label: String,
    /// The series.
    pub series: Vec<Series>,
    /// Only ASCII characters when false.
    pub unicode: bool,
}

/// Draws `plot` on `width` × `height` characters, axes and labels included, as lines joined by newlines.
pub fn loglog(plot: &Plot, width: usize, height: usize) -> String {
    let _ = (width, height);
    plot.title.clone()
}
