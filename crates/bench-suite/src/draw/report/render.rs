//! The two templates: a report as Markdown and as one HTML page.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, HtmlEscape, context};

use crate::draw::report::blocks::Page;

/// The report as Markdown.
pub(super) fn markdown(page: &Page) -> Result<String> {
    render(page, "report.md")
}

/// The report as one HTML page that needs nothing else.
pub(super) fn html(page: &Page) -> Result<String> {
    render(page, "report.html")
}

fn render(page: &Page, name: &str) -> Result<String> {
    let mut templates = Environment::new();
    templates.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    templates.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        Some("css") => AutoEscape::None,
        _ => AutoEscape::Custom("markdown".into()),
    });
    templates.set_formatter(|out, state, value| {
        if value.is_undefined() || value.is_none() || value.is_safe() {
            return minijinja::escape_formatter(out, state, value);
        }
        let text = value.to_string();
        let written = match state.auto_escape() {
            AutoEscape::Html => write!(out, "{}", HtmlEscape(&visible(&text))),
            AutoEscape::Custom(_) => out.write_str(&escape_markdown(&text)),
            _ => out.write_str(&text),
        };
        Ok(written?)
    });
    templates.add_template("report.css", include_str!("report.css"))?;
    templates.add_template("report.md", include_str!("report.md.jinja"))?;
    templates.add_template("report.html", include_str!("report.html.jinja"))?;
    let text = templates
        .get_template(name)?
        .render(context! { page => Serde(page) })
        .context("the report's template")?;
    Ok(text)
}

/// Text of others (names of clips and classes) that Markdown and a terminal show as it is: control
/// characters as escapes, HTML and Markdown's own characters as references.
pub(super) fn escape_markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '!' | '~' | '#' => {
                let _ = write!(safe, "&#{};", c as u32);
            }
            c if is_invisible(c) => {
                let _ = write!(safe, "&#92;u{{{:x}}}", c as u32);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Text with control characters and marks of direction written out.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) {
            let _ = write!(shown, "\\u{{{:x}}}", c as u32);
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, and marks that turn the direction of the text around them.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_not_obeyed() {
        assert_eq!(escape_markdown("<b>|x\u{1b}[31m"), "&#60;b&#62;&#124;x&#92;u{1b}&#91;31m");
        assert_eq!(escape_markdown("naïve clip 1.mpg"), "naïve clip 1.mpg");
        assert_eq!(visible("a\u{202e}b\nc"), "a\\u{202e}b\\u{a}c");
    }
}
