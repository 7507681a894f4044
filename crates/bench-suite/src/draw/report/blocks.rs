//! What a report is made of: sections of blocks, said once and written as Markdown and as HTML by two templates.

use serde::Serialize;

/// A report.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) title: String,
    /// What must be said before any number: the first words, and the rest.
    pub(super) warning: (String, String),
    pub(super) sections: Vec<Section>,
    /// Style of the charts on a dark page.
    pub(super) dark_charts: String,
}

/// A heading with what stands below it.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) title: String,
    /// Anchor in the page.
    pub(super) id: String,
    /// 2 or 3.
    pub(super) level: usize,
    pub(super) blocks: Vec<Block>,
}

impl Section {
    pub(super) fn new(level: usize, id: &str, title: &str, blocks: Vec<Block>) -> Self {
        Self { title: title.to_owned(), id: id.to_owned(), level, blocks }
    }
}

/// One piece of a section.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Block {
    /// A paragraph.
    Text { text: Text },
    /// A list.
    List { items: Vec<Text> },
    /// A table; the first `left` columns hold words, the others numbers.
    Table { head: Vec<String>, left: usize, rows: Vec<Vec<String>> },
    /// A chart: a file beside the Markdown, drawn inside the HTML.
    Chart { name: String, title: String, svg: String },
    /// Confusion matrices, in the HTML only.
    Matrices { matrices: Vec<Matrix> },
    /// Clips that were taken for something else.
    Mistakes { clips: Vec<MistakenClip>, pictures: bool },
    /// Clips with where a model looks in them, in the HTML only.
    Looks { clips: Vec<LookedAt> },
    /// Lines as they are; folded away below a summary where there is one.
    Code { language: String, summary: String, lines: Vec<String> },
}

/// A text in which every other piece, from the second on, is code.
pub(super) type Text = Vec<String>;

/// A confusion matrix: a row per true class.
#[derive(Debug, Serialize)]
pub(super) struct Matrix {
    pub(super) title: String,
    pub(super) rows: Vec<MatrixRow>,
}

/// One true class.
#[derive(Debug, Serialize)]
pub(super) struct MatrixRow {
    pub(super) class: String,
    pub(super) cells: Vec<MatrixCell>,
}

/// One pair of classes.
#[derive(Debug, Serialize)]
pub(super) struct MatrixCell {
    pub(super) clips: usize,
    /// Share of the true class's clips, in hundredths.
    pub(super) share: usize,
}

/// A row of the mistakes.
#[derive(Debug, Serialize)]
pub(super) struct MistakenClip {
    pub(super) clip: String,
    pub(super) label: String,
    pub(super) predicted: String,
    pub(super) probability: String,
    pub(super) by: String,
    pub(super) wrong: String,
    /// A `data:` URI; empty where no frames may be shown.
    pub(super) picture: String,
}

/// A clip, and where a model looks in it.
#[derive(Debug, Serialize)]
pub(super) struct LookedAt {
    pub(super) clip: String,
    pub(super) label: String,
    pub(super) predicted: String,
    /// A `data:` URI.
    pub(super) picture: String,
}

/// Our own words: what stands between backticks is code.
pub(super) fn words(text: &str) -> Text {
    text.split('`').map(str::to_owned).collect()
}

/// Words of others: no piece of them is code.
pub(super) fn plain(text: &str) -> Text {
    vec![text.to_owned()]
}

/// Our words with a text of others after them.
pub(super) fn ending(ours: &str, theirs: &str) -> Text {
    vec![format!("{ours}{theirs}")]
}

/// Lines of code, each made visible, and no end of a Markdown block among them.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| super::visible(line).replace("```", "'''")).collect()
}
