//! The session trap: AMQP has sessions and Service Bus has sessions. Every type, and every public
//! name, says which one it means (docs/glossary.md).

use proc_macro2::Ident;
use syn::{Visibility, visit::Visit};

use super::{Checkout, Finding, source::Source};

/// Names that are not ours: properties and operations as Service Bus calls them.
const FOREIGN: &[&str] = &[
    "requires_session",
    "RequiresSession",
    "requires_session_origin",
    "SessionEnd", /* AMQP: session-end */
];

/// Where wire names are spelled as they are on the wire.
const WIRE_NAMES: &str = "crates/protocol/src/names.rs";

pub(super) fn check(checkout: &Checkout) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &checkout.sources {
        if source.path.ends_with(WIRE_NAMES) || source.is_test {
            continue;
        }
        let mut names = Names { source, findings: &mut findings };
        names.visit_file(&source.syntax);
    }
    findings
}

struct Names<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Names<'_> {
    fn judge(&mut self, name: &Ident) {
        let line = name.span().start().line;
        let text = name.to_string();
        if is_bare(&text) && !FOREIGN.contains(&text.as_str()) && !self.source.is_test_line(line) {
            self.findings.push(format!(
                "{}:{line}: \"{text}\" does not say which session it means; write AmqpSession or MessageSession",
                self.source.path.display()
            ));
        }
    }

    fn judge_public(&mut self, visibility: &Visibility, name: &Ident) {
        if matches!(visibility, Visibility::Public(_)) {
            self.judge(name);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.judge(&item.ident);
        syn::visit::visit_item_struct(self, item);
    }
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.judge(&item.ident);
        if matches!(item.vis, Visibility::Public(_)) {
            for variant in &item.variants {
                self.judge(&variant.ident);
            }
        }
        syn::visit::visit_item_enum(self, item);
    }
    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.judge(&item.ident);
        syn::visit::visit_item_trait(self, item);
    }
    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.judge(&item.ident);
    }
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.judge_public(&item.vis, &item.ident);
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.judge_public(&item.vis, &item.sig.ident);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.judge_public(&item.vis, &item.sig.ident);
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.judge_public(&item.vis, &item.ident);
        syn::visit::visit_item_mod(self, item);
    }
    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.judge_public(&field.vis, name);
        }
    }
}

/// Whether a name has the word "session" without "amqp" or "message" before it.
fn is_bare(name: &str) -> bool {
    let words = words(name);
    words.iter().enumerate().any(|(at, word)| {
        let before = at.checked_sub(1).and_then(|at| words.get(at));
        matches!(word.as_str(), "session" | "sessions")
            && !before.is_some_and(|before| matches!(before.as_str(), "amqp" | "message"))
    })
}

/// The words of a name in any of Rust's spellings, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        previous_is_lower = c.is_lowercase() || c.is_ascii_digit();
        if let Some(word) = words.last_mut()
            && c != '_'
        {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_say_which_session_are_found() {
        for bare in
            ["Session", "session_id", "SESSION_LOCK", "AcceptSession", "open_sessions", "sessionsOpen"]
        {
            assert!(is_bare(bare), "{bare}");
        }
        for good in
            ["AmqpSession", "message_session_id", "MESSAGE_SESSION_LOCKS", "MessageSessions", "obsession"]
        {
            assert!(!is_bare(good), "{good}");
        }
    }
}
