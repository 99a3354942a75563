//! Reading a TOML tree with spans, collecting every mistake on the way.
//!
//! A reader asks a [`Table`] for its keys; what is absent, of the wrong type or unknown becomes a
//! mistake in the [`Sink`], and reading goes on.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FILE_BYTES_MAX;
use super::mistake::{Mistake, Mistakes, did_you_mean, quoted};

/// What is wrong with a text inside a value; `part` is a byte range of that text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) part: Range<usize>,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Where mistakes go.
pub(super) struct Sink<'t> {
    text: &'t str,
    list: Vec<Mistake>,
}

impl<'t> Sink<'t> {
    pub(super) fn new(text: &'t str) -> Sink<'t> {
        Sink { text, list: Vec::new() }
    }

    /// Records a mistake. The line is counted at the end, by [`Mistakes::new`].
    pub(super) fn say(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (message, hint) = (message.into(), hint.into());
        self.list.push(Mistake { span, line: 0, message, hint });
    }

    /// Takes a parsed text, or records what is wrong with it.
    pub(super) fn heed<T>(&mut self, text: &Text<'_>, parsed: Result<T, Complaint>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(Complaint { part, message, hint }) => {
                self.say(text.span_of(part, self.text), message, hint);
                None
            }
        }
    }

    /// `value` if the file has no mistake.
    pub(super) fn finish<T>(self, file: &str, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(Mistakes::new(file, self.text, self.list)),
        }
    }
}

/// Parses TOML and hands the tree to `read`, even where parts of it are broken.
pub(super) fn read_document<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Sink<'_>, &DeTable<'_>) -> Option<T>,
) -> Result<T, Mistakes> {
    let mut sink = Sink::new(text);
    if text.len() > FILE_BYTES_MAX {
        let hint = format!("at most {FILE_BYTES_MAX} bytes are read");
        sink.say(0..0, format!("the file has {} bytes", text.len()), hint);
        return sink.finish(file, None);
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        sink.say(span, message, "not TOML");
    }
    let value = read(&mut sink, tree.get_ref());
    sink.finish(file, value)
}

/// A string value and its place.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
}

impl Text<'_> {
    /// Where `part` of the string is in the file; the whole where escapes make that unclear.
    fn span_of(&self, part: Range<usize>, file: &str) -> Range<usize> {
        let source = file.get(self.span.clone()).unwrap_or_default();
        if source == self.text && !part.is_empty() {
            // A word of the command line, without quotes.
            let from = self.span.start;
            return from + part.start..from + part.end;
        }
        let inside = source.get(1..source.len().saturating_sub(1));
        if inside == Some(self.text) && !part.is_empty() {
            let from = self.span.start + 1;
            return from + part.start..from + part.end;
        }
        self.span.clone()
    }
}

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a>(&'a Spanned<DeValue<'a>>);

impl<'a> Node<'a> {
    pub(super) fn span(self) -> Range<usize> {
        self.0.span()
    }

    fn found(self) -> &'static str {
        match self.0.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    fn wrong_type<T>(self, sink: &mut Sink<'_>, wanted: &str) -> Option<T> {
        sink.say(self.span(), format!("expected {wanted}, found {}", self.found()), "");
        None
    }

    pub(super) fn text(self, sink: &mut Sink<'_>) -> Option<Text<'a>> {
        match self.0.get_ref() {
            DeValue::String(text) => Some(Text { text, span: self.span() }),
            _ => self.wrong_type(sink, "a string"),
        }
    }

    pub(super) fn boolean(self, sink: &mut Sink<'_>) -> Option<bool> {
        match self.0.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type(sink, "true or false"),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(self, sink: &mut Sink<'_>, range: Range<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.0.get_ref() else {
            return self.wrong_type(sink, "a whole number");
        };
        let digits = integer.as_str().replace('_', "");
        let number = u64::from_str_radix(&digits, integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let hint = format!("from {} to {}", range.start, range.end - 1);
            sink.say(self.span(), "the number is out of range", hint);
        }
        number
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self.0.get_ref(), DeValue::String(_))
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self.0.get_ref(), DeValue::Integer(_))
    }

    pub(super) fn is_empty_list(self) -> bool {
        matches!(self.0.get_ref(), DeValue::Array(list) if list.is_empty())
    }

    pub(super) fn is_table(self) -> bool {
        matches!(self.0.get_ref(), DeValue::Table(_))
    }

    /// The parts of a list.
    pub(super) fn list(self, sink: &mut Sink<'_>) -> Vec<Node<'a>> {
        match self.0.get_ref() {
            DeValue::Array(list) => list.iter().map(Node).collect(),
            _ => self.wrong_type(sink, "a list").unwrap_or_default(),
        }
    }

    /// The strings of a list.
    pub(super) fn texts(self, sink: &mut Sink<'_>) -> Vec<Text<'a>> {
        let list = self.list(sink);
        list.into_iter().filter_map(|node| node.text(sink)).collect()
    }

    /// One string, or the strings of a list.
    pub(super) fn text_or_texts(self, sink: &mut Sink<'_>) -> Vec<Text<'a>> {
        if self.is_text() { self.text(sink).into_iter().collect() } else { self.texts(sink) }
    }

    /// A table of which only `keys` are known.
    pub(super) fn table(
        self,
        sink: &mut Sink<'_>,
        what: &'static str,
        keys: &[&str],
    ) -> Option<Table<'a>> {
        let table = self.open_table(sink, what)?;
        table.refuse_unknown(sink, keys);
        Some(table)
    }

    /// A table whose keys the caller looks at.
    pub(super) fn open_table(self, sink: &mut Sink<'_>, what: &'static str) -> Option<Table<'a>> {
        match self.0.get_ref() {
            DeValue::Table(entries) => Some(Table { entries, span: self.span(), what }),
            _ => self.wrong_type(sink, "a table"),
        }
    }
}

/// A table and its place.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    pub(super) span: Range<usize>,
    what: &'static str,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(
        sink: &mut Sink<'_>,
        entries: &'a DeTable<'a>,
        what: &'static str,
        keys: &[&str],
    ) -> Table<'a> {
        let table = Table { entries, span: 0..0, what };
        table.refuse_unknown(sink, keys);
        table
    }

    /// What the words of a command line say, as if it were a table of a file.
    pub(super) fn of_words(
        entries: &'a DeTable<'a>,
        span: Range<usize>,
        what: &'static str,
    ) -> Table<'a> {
        Table { entries, span, what }
    }

    pub(super) fn refuse_unknown(&self, sink: &mut Sink<'_>, keys: &[&str]) {
        for (key, _) in self.entries() {
            if !keys.contains(&key.text) {
                self.refuse(sink, &key, keys);
            }
        }
    }

    /// Says that `key` is unknown here.
    pub(super) fn refuse(&self, sink: &mut Sink<'_>, key: &Text<'_>, keys: &[&str]) {
        let message = format!("unknown key {} in {}", quoted(key.text), self.what);
        sink.say(key.span.clone(), message, did_you_mean(key.text, keys.iter().copied()));
    }

    /// Every key and its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Text<'a>, Node<'a>)> + use<'a> {
        self.entries
            .iter()
            .map(|(key, value)| (Text { text: key.get_ref(), span: key.span() }, Node(value)))
    }

    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.entries.get(key).map(Node)
    }

    /// Where the key itself stands.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        let found = self.entries.get_key_value(key);
        found.map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// The value of a key that must be there.
    pub(super) fn need(&self, sink: &mut Sink<'_>, key: &str) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            sink.say(self.span.clone(), format!("`{key}` is missing in {}", self.what), "");
        }
        node
    }

    pub(super) fn text(&self, sink: &mut Sink<'_>, key: &str) -> Option<Text<'a>> {
        self.get(key).and_then(|node| node.text(sink))
    }

    /// The string of a key that is absent or not, parsed.
    pub(super) fn parsed<T>(
        &self,
        sink: &mut Sink<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let text = self.text(sink, key)?;
        sink.heed(&text, parse(text.text))
    }

    /// The strings of a list, each parsed; each at most once.
    pub(super) fn parsed_list<T: PartialEq>(
        &self,
        sink: &mut Sink<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Vec<T> {
        let texts = self.get(key).map(|node| node.text_or_texts(sink)).unwrap_or_default();
        let mut list = Vec::new();
        for text in texts {
            let Some(value) = sink.heed(&text, parse(text.text)) else { continue };
            if list.contains(&value) {
                sink.say(text.span, format!("{} is there twice", quoted(text.text)), "");
            } else {
                list.push(value);
            }
        }
        list
    }

    /// `format = 1`, which every file carries.
    pub(super) fn check_format(&self, sink: &mut Sink<'_>) {
        let hint = "this deadbeat reads `format = 1`";
        match self.get("format") {
            None => {
                sink.say(self.span.clone(), format!("`format` is missing in {}", self.what), hint);
            }
            Some(node) => {
                let number = node.number(sink, 0..u64::MAX);
                if number.is_some_and(|number| number != 1) {
                    sink.say(node.span(), "unknown format", hint);
                }
            }
        }
    }
}
