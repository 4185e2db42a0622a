//! Code in documents that is cut from files which tests run. In a document,
//!
//! ```text
//! <!-- snippet: path/of/a/file#name -->
//! ```
//!
//! is followed by a fenced block: what stands in that file between a line with `snippet: name`
//! and the next one with `end snippet`. `cargo xtask docs` writes the block, `tidy` compares it.

use std::{fs, path::Path};

use anyhow::Context as _;

const PLACE_BEGIN: &str = "<!-- snippet: ";
const PLACE_END: &str = " -->";
const SNIPPET_BEGIN: &str = "snippet: ";
const SNIPPET_END: &str = "end snippet";
const FENCE: &str = "```";

/// Where a snippet is to stand, and what is wrong with it.
type Problem = (usize, String);

/// Writes the snippets of all documents anew.
///
/// # Errors
/// When a document cannot be read or written, or a snippet is not where its place says.
pub(crate) fn update(root: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join("docs")).context("cannot list docs")? {
        let path = entry.context("cannot list docs")?.path();
        if path.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let shown = path.display();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        let filled = fill(&text, &|file| fs::read_to_string(root.join(file)).ok())
            .map_err(|(line, problem)| anyhow::anyhow!("{shown}:{line}: {problem}"))?;
        if filled != text {
            fs::write(&path, filled).with_context(|| format!("cannot write {shown}"))?;
        }
    }
    Ok(())
}

/// The document with each place filled. `read` gives the text of a file of the repository.
///
/// # Errors
/// The first place whose file or snippet is not there.
pub(crate) fn fill(text: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let mut filled = String::with_capacity(text.len());
    let mut lines = text.lines().enumerate().peekable();
    let mut in_code = false;
    while let Some((at, line)) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        if line.starts_with(FENCE) {
            in_code = !in_code;
        }
        let place = line.strip_prefix(PLACE_BEGIN).and_then(|rest| rest.strip_suffix(PLACE_END));
        let Some(place) = place.filter(|_| !in_code) else { continue };
        let problem = |problem: String| (at + 1, problem);
        let (file, name) =
            place.split_once('#').ok_or_else(|| problem(format!("a snippet is a file#name, not {place}")))?;
        let source = read(file).ok_or_else(|| problem(format!("there is no file {file}")))?;
        let code = cut(&source, name).ok_or_else(|| problem(format!("{file} has no snippet \"{name}\"")))?;
        filled.push_str(&format!("{FENCE}{}\n{code}{FENCE}\n", language(file)));
        // The block that was there.
        if lines.next_if(|(_, line)| line.starts_with(FENCE)).is_some() {
            for (_, line) in lines.by_ref() {
                if line.starts_with(FENCE) {
                    break;
                }
            }
        }
    }
    Ok(filled)
}

/// A snippet without blank lines around it and without the indentation that all its lines share.
fn cut(source: &str, name: &str) -> Option<String> {
    let begins = |line: &&str| line.split_once(SNIPPET_BEGIN).is_some_and(|(_, rest)| is_name(rest, name));
    let mut lines = source.lines().skip_while(|line| !begins(line));
    lines.next()?;
    let mut snippet = Vec::new();
    loop {
        let line = lines.next()?;
        if line.contains(SNIPPET_END) {
            break;
        }
        snippet.push(line);
    }
    let is_blank = |line: &&str| line.trim().is_empty();
    let begin = snippet.iter().position(|line| !is_blank(line)).unwrap_or(0);
    let end = snippet.iter().rposition(|line| !is_blank(line)).map_or(0, |last| last + 1);
    let snippet = snippet.get(begin..end).unwrap_or_default();
    let indentation = |line: &&str| line.len() - line.trim_start().len();
    let shared = snippet.iter().filter(|line| !is_blank(line)).map(indentation).min().unwrap_or(0);
    let code = snippet.iter().map(|line| format!("{}\n", line.get(shared..).unwrap_or_default().trim_end()));
    Some(code.collect())
}

/// Whether what follows the mark is this name, perhaps with the end of a comment behind it.
fn is_name(rest: &str, name: &str) -> bool {
    rest.split_whitespace().next() == Some(name)
}

fn language(file: &str) -> &'static str {
    match Path::new(file).extension().and_then(|end| end.to_str()) {
        Some("mjs" | "js") => "js",
        Some("py") => "python",
        Some("go") => "go",
        Some("java") => "java",
        Some("rs") => "rust",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
fn f() {
    // snippet: send-all
    other();
    // end snippet
    /* snippet: send */

    if a {

        b();
    }

    /* end snippet */
}
";
    const CODE: &str = "```rust\nif a {\n\n    b();\n}\n```\n";

    fn filled(text: &str) -> Result<String, Problem> {
        fill(text, &|file| (file == "a.rs").then(|| SOURCE.to_owned()))
    }

    #[test]
    fn a_place_gets_the_snippet_whether_it_has_a_block_or_not() {
        let place = "<!-- snippet: a.rs#send -->\n";
        let expected = format!("x\n{place}{CODE}\ny\n");
        assert_eq!(filled(&format!("x\n{place}\ny\n")), Ok(expected.clone()));
        assert_eq!(filled(&format!("x\n{place}```rust\nold\n```\n\ny\n")), Ok(expected.clone()));
        assert_eq!(filled(&expected), Ok(expected.clone()), "what is current stays");
    }

    #[test]
    fn a_place_in_a_code_block_is_no_place() {
        let text = "```text\n<!-- snippet: a.rs#absent -->\n```\n";
        assert_eq!(filled(text), Ok(text.to_owned()));
    }

    #[test]
    fn missing_files_and_snippets_are_named_with_their_line() {
        for (place, problem) in [
            ("b.rs#send", "there is no file b.rs"),
            ("a.rs#absent", "a.rs has no snippet \"absent\""),
            ("a.rs", "a snippet is a file#name, not a.rs"),
        ] {
            let text = format!("x\n<!-- snippet: {place} -->\n");
            assert_eq!(filled(&text), Err((2, problem.to_owned())));
        }
    }
}
