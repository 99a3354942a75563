//! Rewrites the known gaps of a subject file, and leaves everything else of it as it stands.
//!
//! Pure: from text to text. What comes out is read back before it is given out: a file is never
//! made worse.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use super::mistake::Mistakes;
use super::spec::Subject;
use super::{parse_subject, subject_file};
use crate::plan::KnownGap;

/// The gaps cannot be written into the file.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is no TOML any more.
    #[error("the file has changed since it was read, and is no TOML now: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    /// It has no such variant any more.
    #[error("the file has no variant `{0}` any more")]
    NoVariant(String),
    /// What would come out is wrong.
    #[error("the gaps would make the file wrong: {0}")]
    Wrong(String),
}

impl From<Mistakes> for EditError {
    fn from(mistakes: Mistakes) -> EditError {
        EditError::Wrong(mistakes.render(false))
    }
}

/// The text with just these gaps for `variant`. An entry that is kept keeps its place, its comments
/// and keys that are not known here; only its date may change.
///
/// # Errors
/// The text is not what it was, or what would come out is no subject file.
pub fn with_gaps(text: &str, variant: &str, gaps: &[KnownGap]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let table = table_of(document.as_table_mut(), variant)?;
    let is_inline = table.is_inline;
    let old = table.table.remove(KEY).and_then(|item| item.into_array_of_tables().ok());
    let old = old.unwrap_or_default();
    let mut new = ArrayOfTables::new();
    for gap in gaps {
        let kept = old.iter().find(|table| is_same(table, gap));
        let mut entry = kept.cloned().unwrap_or_else(|| fresh(gap));
        if entry.get("review-by").and_then(Item::as_str) != Some(&gap.review_by) {
            entry.insert("review-by", value(&gap.review_by));
        }
        new.push(entry);
    }
    if !new.is_empty() {
        let item = Item::ArrayOfTables(new);
        let item = if is_inline { item.into_value().map_or(Item::None, value) } else { item };
        table.table.insert(KEY, item);
    }
    let text = document.to_string();
    let read = parse_subject("subject.toml", &text)?;
    let now = read.variants.get(variant).map_or(&[][..], |variant| &variant.gaps);
    // An empty list of a variant is the plain subject's.
    if now != gaps && !(gaps.is_empty() && variant != Subject::DEFAULT) {
        return Err(EditError::Wrong("the gaps do not read back as they were written".to_owned()));
    }
    Ok(text)
}

/// Whether a text is a date as `review-by` has it.
#[must_use]
pub fn is_date(text: &str) -> bool {
    subject_file::date(text).is_ok()
}

const KEY: &str = "known-gap";

struct Place<'a> {
    table: &'a mut dyn TableLike,
    is_inline: bool,
}

/// The table that holds a variant's gaps.
fn table_of<'a>(root: &'a mut Table, variant: &str) -> Result<Place<'a>, EditError> {
    if variant == Subject::DEFAULT {
        return Ok(Place { table: root, is_inline: false });
    }
    let variants = root.get_mut("variant").and_then(Item::as_table_like_mut);
    let item = variants.and_then(|variants| variants.get_mut(variant));
    let is_inline = item.as_ref().is_some_and(|item| item.is_inline_table());
    let table = item.and_then(Item::as_table_like_mut);
    let table = table.ok_or_else(|| EditError::NoVariant(variant.to_owned()))?;
    Ok(Place { table, is_inline })
}

fn is_same(table: &Table, gap: &KnownGap) -> bool {
    let findings: Vec<&str> = match table.get("findings") {
        Some(Item::Value(toml_edit::Value::Array(list))) => {
            list.iter().filter_map(toml_edit::Value::as_str).collect()
        }
        Some(item) => item.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    table.get("scenario").and_then(Item::as_str) == Some(&gap.scenario) && findings == gap.findings
}

fn fresh(gap: &KnownGap) -> Table {
    let mut table = Table::new();
    table.insert("scenario", value(&gap.scenario));
    table.insert("findings", value(gap.findings.iter().collect::<toml_edit::Array>()));
    table.insert("reason", value(&gap.reason));
    if let Some(issue) = &gap.issue {
        table.insert("issue", value(issue));
    }
    table.insert("review-by", value(&gap.review_by));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# My lock.
format  = 1
name    = "mine"
command = { argv = ["x"] }
lock    = { path = "{dir}/l", heartbeat = [] }

# Since the rewrite.
[[known-gap]]
scenario  = "pause/*"
findings  = ["double-held"]
reason    = "no fencing"   # yet
review-by = "2027-01-01"

[variant.fast] # for tests
env = { A = "1" }

[variant]
slow = { env = { A = "2" } }
"#;

    fn gap(scenario: &str, review_by: &str) -> KnownGap {
        KnownGap {
            scenario: scenario.to_owned(),
            findings: vec!["double-held".to_owned()],
            reason: "no \"fencing\"".to_owned(),
            issue: None,
            review_by: review_by.to_owned(),
        }
    }

    /// What is recorded in the file as it is read.
    fn kept() -> KnownGap {
        KnownGap { reason: "no fencing".to_owned(), ..gap("pause/*", "2027-01-01") }
    }

    fn file() -> String {
        FILE.replace("\n[variant]\nslow = { env = { A = \"2\" } }\n", "")
    }

    #[test]
    fn what_is_kept_stays_as_it_stands_and_what_is_new_is_added() {
        let text = with_gaps(&file(), "default", &[kept(), gap("clock/a", "2027-06-01")]).unwrap();
        assert!(text.starts_with(file().split("[variant.fast]").next().unwrap().trim_end()));
        assert!(
            text.contains("scenario = \"clock/a\"") && text.contains("[variant.fast] # for tests")
        );
        let later = KnownGap { review_by: "2028-01-01".to_owned(), ..kept() };
        let text = with_gaps(&file(), "default", &[later]).unwrap();
        assert!(text.contains("# yet") && text.contains("# Since the rewrite."));
        assert!(text.contains("2028-01-01") && !text.contains("2027-01-01"));
        let text = with_gaps(&file(), "default", &[]).unwrap();
        assert!(!text.contains("known-gap") && text.contains("# My lock."), "{text}");
    }

    #[test]
    fn a_variant_gets_a_list_of_its_own_whatever_its_form() {
        for text in [file(), FILE.replace("[variant.fast] # for tests\nenv = { A = \"1\" }\n", "")]
        {
            let variant = if text.contains("slow") { "slow" } else { "fast" };
            let new = with_gaps(&text, variant, &[kept(), gap("clock/a", "2027-06-01")]).unwrap();
            let read = parse_subject("subject.toml", &new).unwrap();
            assert_eq!(read.variants[variant].gaps.len(), 2);
            assert_eq!(read.variants["default"].gaps, [kept()]);
        }
    }

    #[test]
    fn a_file_is_never_made_worse() {
        let wrong = gap("pause/*", "soon");
        assert!(matches!(with_gaps(&file(), "default", &[wrong]), Err(EditError::Wrong(_))));
        assert!(matches!(with_gaps(&file(), "gone", &[]), Err(EditError::NoVariant(_))));
        assert!(matches!(with_gaps("format = ", "default", &[]), Err(EditError::Syntax(_))));
        assert!(is_date("2027-06-01") && !is_date("2027-6-1"));
    }
}
