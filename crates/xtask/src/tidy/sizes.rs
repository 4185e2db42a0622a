//! Files of at most 600 lines, functions of at most 70, tests not counted. What is longer stands
//! in a list that may only shrink.

use std::collections::BTreeMap;

use anyhow::Context as _;
use syn::{spanned::Spanned as _, visit::Visit};

use super::{Checkout, Finding, source::Source};

/// Lines of a file.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from its `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines `path lines` or `path::function lines` that are tolerated.
const EXCEPTIONS: &str = "crates/xtask/tidy-exceptions.txt";

pub(super) fn check(checkout: &Checkout) -> anyhow::Result<Vec<Finding>> {
    let text = checkout.text(EXCEPTIONS.as_ref())?.unwrap_or_default();
    let mut tolerated = exceptions(&text)?;
    let mut findings = Vec::new();
    for source in checkout.sources.iter().filter(|source| !source.is_test) {
        let path = source.path.display();
        let lines = source.product_lines();
        findings.extend(judge(
            &path.to_string(),
            lines,
            FILE_LINES_MAX,
            "split it by responsibility",
            &mut tolerated,
        ));
        for (name, lines) in functions(source) {
            let name = format!("{path}::{name}");
            findings.extend(judge(&name, lines, FUNCTION_LINES_MAX, "split it", &mut tolerated));
        }
    }
    for name in tolerated.keys() {
        findings.push(format!("{EXCEPTIONS}: {name} is short enough or gone; remove its line"));
    }
    Ok(findings)
}

fn exceptions(text: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, lines) = line.rsplit_once(' ').context("a line without a number")?;
            Ok((name.to_owned(), lines.parse().with_context(|| format!("{EXCEPTIONS}: {line}"))?))
        })
        .collect()
}

fn judge(
    name: &str,
    lines: usize,
    maximum: usize,
    advice: &str,
    tolerated: &mut BTreeMap<String, usize>,
) -> Option<Finding> {
    if lines <= maximum {
        return None;
    }
    match tolerated.remove(name) {
        None => Some(format!("{name}: {lines} lines, {maximum} are allowed; {advice}")),
        Some(limit) if lines > limit => {
            Some(format!("{name}: {lines} lines, {limit} are tolerated; exceptions may only shrink"))
        }
        Some(limit) if lines < limit => {
            Some(format!("{EXCEPTIONS}: {name} has {lines} lines now; write that instead of {limit}"))
        }
        Some(_) => None,
    }
}

/// Names and lengths of the functions of a file that are no tests.
fn functions(source: &Source) -> Vec<(String, usize)> {
    struct Lengths<'a>(&'a Source, Vec<(String, usize)>);
    impl Lengths<'_> {
        fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
            let first = signature.fn_token.span().start().line;
            let last = block.span().end().line;
            if !self.0.is_test_line(first) {
                self.1.push((signature.ident.to_string(), last + 1 - first));
            }
        }
    }
    impl<'ast> Visit<'ast> for Lengths<'_> {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.add(&item.sig, &item.block);
            syn::visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.add(&item.sig, &item.block);
            syn::visit::visit_impl_item_fn(self, item);
        }
        fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
            if let Some(block) = &item.default {
                self.add(&item.sig, block);
            }
        }
    }
    let mut lengths = Lengths(source, Vec::new());
    lengths.visit_file(&source.syntax);
    lengths.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_may_only_shrink() {
        let judged = |lines| judge("f", lines, 70, "split it", &mut BTreeMap::from([("f".to_owned(), 80)]));
        assert!(judged(81).is_some_and(|finding| finding.contains("may only shrink")));
        assert!(judged(79).is_some_and(|finding| finding.contains("write that instead of 80")));
        assert_eq!(judged(80), None);
        assert_eq!(judged(70), None);
        assert!(judge("g", 71, 70, "split it", &mut BTreeMap::new()).is_some());
    }
}
