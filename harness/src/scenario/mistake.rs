//! The mistakes of one file: all of them, each with its place, and what was probably meant.
//!
//! Spans are byte ranges of the text that was parsed. What is quoted from a file is escaped and
//! cut, so that a hostile file cannot write to the terminal through a message.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// The longest quotation from a file in a message, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// The longest line that is shown whole; of a longer one only the surroundings of the mark are.
const LINE_BYTES_MAX: usize = 400;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What may help: the nearest known word, or what is allowed.
    pub hint: String,
}

/// Everything that is wrong in one file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    text: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// The mistakes of `file`, in the order of their places.
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Mistake>) -> Mistakes {
        assert!(!list.is_empty(), "a file without a mistake has been refused");
        list.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        // Counted on from one mistake to the next: a file may hold very many.
        let (mut line, mut at) = (1, 0);
        for mistake in &mut list {
            let start = mistake.span.start.min(text.len());
            line += text.as_bytes()[at..start].iter().filter(|byte| **byte == b'\n').count();
            at = start;
            mistake.line = line;
        }
        Mistakes { file: file.to_owned(), text: text.to_owned(), list }
    }

    /// The file, as it was named to the parser.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Each mistake, in the order of their places.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// All of them for a person, with or without colour.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<String> = self.list.iter().map(|one| self.show(&renderer, one)).collect();
        shown.join("\n\n")
    }

    /// One mistake with its line. Only that line is handed on: a file may be long.
    fn show(&self, renderer: &Renderer, mistake: &Mistake) -> String {
        let text = &self.text;
        let start = floor(text, mistake.span.start);
        // Looked for nearby only: a hostile file is one long line with very many mistakes.
        let near = floor(text, start.saturating_sub(LINE_BYTES_MAX / 2));
        let from = text[near..start].rfind('\n').map_or(near, |at| near + at + 1);
        let far = floor(text, start + LINE_BYTES_MAX / 2);
        let to = text[start..far].find('\n').map_or(far, |at| start + at);
        let end = floor(text, mistake.span.end).clamp(start, to.max(start));
        let snippet = Snippet::source(&text[from..to]).line_start(mistake.line).path(&self.file);
        let mark = AnnotationKind::Primary.span(start - from..end - from).label(&mistake.hint);
        renderer.render(&[Level::ERROR
            .primary_title(mistake.message.as_str())
            .element(snippet.annotation(mark))])
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

/// What a file says, in backticks, safe to print.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > QUOTED_CHARS_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let best = known.into_iter().min_by_key(distance)?;
    let length = lower.chars().count().max(best.chars().count());
    // A third of the word may be wrong: `hodl` finds `hold`, `x` finds nothing.
    (distance(&best) * 3 <= length + 1).then_some(best)
}

/// "did you mean `X`?" where a known word is near, else what is known.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    if all.len() > 24 { String::new() } else { format!("known here: {}", all.join(", ")) }
}
