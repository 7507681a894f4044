//! Numbers for people.

/// `44,236,800`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 GB`, decimal units.
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        _ if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        _ if n >= 1e6 => format!("{:.0} MB", n / 1e6),
        _ => format!("{:.0} kB", n / 1e3),
    }
}

/// `2 h 05 min`, `12 min 30 s`, `7.5 s`.
pub fn seconds(s: f64) -> String {
    // A sum of nothing is -0.0.
    let s = s + 0.0;
    let whole = s.round() as u64;
    match whole {
        _ if s < 10.0 => format!("{s:.1} s"),
        _ if s < 60.0 => format!("{whole} s"),
        _ if s < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A score in [0, 1] with three decimals.
pub fn score(value: f64) -> String {
    format!("{value:.3}")
}

/// A p-value with three decimals.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// A number of weights short enough for a chart: `3,232`, `44.2 M`.
pub fn short_count(n: usize) -> String {
    if n < 1_000_000 { thousands(n) } else { format!("{:.1} M", n as f64 / 1e6) }
}

/// A Markdown table.
pub fn md_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line =
        |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut text = line(&mut header.iter().copied());
    text.push_str(&line(&mut header.iter().map(|_| "---")));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Rows as aligned columns, the first `left` of them to the left.
pub fn columns(rows: &[Vec<String>], left: usize) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, &w))| if i < left { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([thousands(0), thousands(999), thousands(58_982_400)], ["0", "999", "58,982,400"]);
        assert_eq!([bytes(1_234_567_890), bytes(80_000_000), bytes(57_600)], ["1.2 GB", "80 MB", "58 kB"]);
        assert_eq!(
            [seconds(7.52), seconds(59.4), seconds(750.0), seconds(7500.0)],
            ["7.5 s", "59 s", "12 min 30 s", "2 h 05 min"]
        );
        assert_eq!(seconds(std::iter::empty::<f64>().sum()), "0.0 s");
        assert_eq!([short_count(3232), short_count(44_236_800)], ["3,232", "44.2 M"]);
    }
}
