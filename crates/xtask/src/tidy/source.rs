//! A Rust file, parsed, and which of its lines are tests.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use syn::{Attribute, Item, spanned::Spanned as _};

/// One Rust file of a crate.
pub(crate) struct Source {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    /// Lines of items under `#[cfg(test)]`, from 1.
    test_lines: Vec<RangeInclusive<usize>>,
    /// Whether all of it is tests.
    pub(crate) is_test: bool,
}

impl Source {
    pub(crate) fn read(root: &Path, path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path, text)
    }

    pub(crate) fn parse(path: &Path, text: String) -> anyhow::Result<Self> {
        let syntax = syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        let test_lines =
            syntax.items.iter().filter(|item| is_test_only(attributes(item))).map(lines_of).collect();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_test =
            path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
                || stem == "tests"
                || stem.ends_with("_tests")
                || path.starts_with("crates/testkit");
        Ok(Self { path: path.to_owned(), text, syntax, test_lines, is_test })
    }

    /// Whether a line, from 1, is part of tests.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Lines that are no tests.
    pub(crate) fn product_lines(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test_line(*line)).count()
    }
}

/// Whether an item is compiled for tests only.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test"))
    })
}

fn lines_of(item: &Item) -> RangeInclusive<usize> {
    let span = item.span();
    span.start().line..=span.end().line
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_do_not_count_as_product() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let source = Source::parse(Path::new("crates/x/src/lib.rs"), text.to_owned()).unwrap();
        assert_eq!(source.product_lines(), 2);
        assert!(source.is_test_line(5) && !source.is_test_line(1));
    }

    #[test]
    fn files_and_folders_of_tests_are_tests_throughout() {
        for path in ["crates/x/src/tests.rs", "crates/x/tests/a.rs", "crates/x/src/a_tests.rs"] {
            assert!(Source::parse(Path::new(path), "fn a() {}\n".to_owned()).unwrap().is_test, "{path}");
        }
    }
}
