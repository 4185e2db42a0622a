//! The table of bounds in `docs/operations.md`: every constant of the broker's crates that bounds
//! something, by its name, with its value and the first sentence of its documentation.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use syn::{Expr, Item, Lit, UnOp, visit::Visit};

use crate::tidy::Source;

/// Where the table stands, between two marks.
pub(crate) const DOCUMENT: &str = "docs/operations.md";
const BEGIN: &str = "<!-- Made from the code by `cargo xtask docs`: begin -->\n";
const END: &str = "<!-- end -->";

/// Crates that make up the broker, lowest first, and what they are about.
const CRATES: [(&str, &str); 6] = [
    ("model", "What clients can ask for"),
    ("protocol", "Service Bus's dialect"),
    ("amqp", "An AMQP connection"),
    ("server", "Connections, and the server as a whole"),
    ("broker", "The core and its threads"),
    ("store", "The store"),
];
/// Endings of the names of bounds.
const ENDINGS: [&str; 8] =
    ["_MAX", "_TIMEOUT", "_WAIT", "_DEADLINE_US", "_CREDIT", "BACKLOG", "_MAX_PRESSED", "_DEFAULT"];

/// One bound.
struct Bound {
    name: String,
    value: String,
    what: String,
    path: String,
}

/// The document with its table made anew.
///
/// # Errors
/// When the document has no place for it.
pub(crate) fn current(document: &str, sources: &[Source]) -> anyhow::Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("no mark before the table of bounds")?;
    let (_, after) = rest.split_once(END).context("no mark behind the table of bounds")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(sources)))
}

fn table(sources: &[Source]) -> String {
    let mut out = String::new();
    for (name, about) in CRATES {
        let root = Path::new("crates").join(name).join("src");
        let own = sources.iter().filter(|source| source.path.starts_with(&root) && !source.is_test);
        let bounds: Vec<Bound> = own.flat_map(bounds).collect();
        if bounds.is_empty() {
            continue;
        }
        // Writing to a text cannot fail.
        let _ = write!(out, "\n### {about}\n\n| What | Bound | Name |\n|---|---|---|\n");
        for Bound { name, value, what, path } in bounds {
            let file = path.rsplit('/').next().unwrap_or(&path);
            let _ = writeln!(out, "| {what} | {value} | `{name}` in [`{file}`](../{path}) |");
        }
    }
    out.push('\n');
    out
}

/// Finds bounds, also inside of functions and implementations.
struct Finder<'a> {
    source: &'a Source,
    bounds: Vec<Bound>,
}

fn bounds(source: &Source) -> Vec<Bound> {
    let mut finder = Finder { source, bounds: Vec::new() };
    finder.visit_file(&source.syntax);
    finder.bounds
}

impl Finder<'_> {
    fn note(&mut self, name: &syn::Ident, attributes: &[syn::Attribute], value: &Expr) {
        let text = name.to_string();
        let line = name.span().start().line;
        if self.source.is_test_line(line) || !ENDINGS.iter().any(|ending| text.ends_with(ending)) {
            return;
        }
        let Some(value) = shown(&text, value) else { return };
        let what = first_sentence(attributes).replace('|', "\\|");
        let path = self.source.path.display().to_string();
        self.bounds.push(Bound { name: text, value, what, path });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Numbers of a record's fields, named like the fields; some of these are bounds of a queue.
        if item.ident != "field" {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.note(&item.ident, &item.attrs, &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.note(&item.ident, &item.attrs, &item.expr);
    }

    /// `Default` of a type of limits: its fields are bounds.
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let is_default = item.trait_.as_ref().is_some_and(|(_, path, _)| path.is_ident("Default"));
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.get_ident().map(ToString::to_string),
            _ => None,
        };
        match name {
            Some(name) if is_default && name.starts_with("Limits") => self.fields(&name, item),
            _ => syn::visit::visit_item_impl(self, item),
        }
    }
}

impl Finder<'_> {
    fn fields(&mut self, name: &str, defaults: &syn::ItemImpl) {
        let is_it = |item: &&Item| matches!(item, Item::Struct(item) if item.ident == name);
        let Some(Item::Struct(limits)) = self.source.syntax.items.iter().find(is_it) else { return };
        for item in &defaults.items {
            let syn::ImplItem::Fn(function) = item else { continue };
            let Some(syn::Stmt::Expr(Expr::Struct(value), _)) = function.block.stmts.last() else { continue };
            for field in &value.fields {
                let syn::Member::Named(member) = &field.member else { continue };
                let documented = limits.fields.iter().find(|field| field.ident.as_ref() == Some(member));
                let text = member.to_string();
                let what = documented.map(|field| first_sentence(&field.attrs)).unwrap_or_default();
                let Some(value) = shown(&text, &field.expr) else { continue };
                let path = self.source.path.display().to_string();
                self.bounds.push(Bound { name: format!("{name}::{text}"), value, what, path });
            }
        }
    }
}

/// The first sentence of a documentation comment.
fn first_sentence(attributes: &[syn::Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(meta) = &attribute.meta else { continue };
        let Expr::Lit(syn::ExprLit { lit: Lit::Str(line), .. }) = &meta.value else { continue };
        let line = line.value();
        if line.trim().is_empty() {
            break;
        }
        text.push_str(line.trim());
        text.push(' ');
    }
    let sentence = text.split_once(". ").map_or(text.as_str(), |(sentence, _)| sentence);
    // Links within the code lead nowhere from a document.
    sentence.trim().trim_end_matches('.').replace(['[', ']'], "")
}

/// A value for people; `None` if it is no number and no time.
fn shown(name: &str, value: &Expr) -> Option<String> {
    if let Expr::Call(call) = value {
        let text = path_text(&call.func)?;
        let number = call.args.first().and_then(number)?;
        return match text.as_str() {
            "Duration::from_secs" => Some(format!("{number} s")),
            "Duration::from_millis" => Some(format!("{number} ms")),
            "Duration::from_micros" => Some(format!("{number} us")),
            _ => None,
        };
    }
    if let Expr::Path(_) = value {
        return path_text(value).map(|text| format!("`{text}`"));
    }
    let number = number(value)?;
    let lower = name.to_lowercase();
    Some(if lower.contains("bytes") || lower.contains("outbox") {
        bytes(number)
    } else if lower.ends_with("_us") {
        format!("{} s", number / 1_000_000)
    } else {
        thousands(number)
    })
}

fn path_text(expression: &Expr) -> Option<String> {
    let Expr::Path(path) = expression else { return None };
    let parts: Vec<String> = path.path.segments.iter().map(|part| part.ident.to_string()).collect();
    Some(parts.join("::"))
}

/// The value of an expression of whole numbers; names that bounds are written with are known.
fn number(expression: &Expr) -> Option<i128> {
    match expression {
        Expr::Lit(syn::ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        Expr::Paren(inner) => number(&inner.expr),
        Expr::Cast(cast) => number(&cast.expr),
        Expr::Unary(syn::ExprUnary { op: UnOp::Neg(_), expr, .. }) => number(expr).map(|number| -number),
        Expr::Path(_) => match path_text(expression)?.as_str() {
            "KIB" => Some(1 << 10),
            "MIB" => Some(1 << 20),
            "u8::MAX" => Some(u8::MAX.into()),
            "u16::MAX" => Some(u16::MAX.into()),
            "u32::MAX" => Some(u32::MAX.into()),
            "i32::MAX" => Some(i32::MAX.into()),
            _ => None,
        },
        Expr::Binary(binary) => {
            let (left, right) = (number(&binary.left)?, number(&binary.right)?);
            match binary.op {
                syn::BinOp::Add(_) => Some(left + right),
                syn::BinOp::Sub(_) => Some(left - right),
                syn::BinOp::Mul(_) => Some(left * right),
                syn::BinOp::Div(_) => left.checked_div(right),
                syn::BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                syn::BinOp::Shr(_) => left.checked_shr(u32::try_from(right).ok()?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn bytes(number: i128) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if number >= size && number % size == 0 {
            return format!("{} {unit}", thousands(number / size));
        }
    }
    format!("{} bytes", thousands(number))
}

fn thousands(number: i128) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_found_with_their_values_and_first_sentences() {
        let text = "/// Links of one\n/// connection. More are refused.\nconst LINKS_MAX: usize = 4_999;\n\
                    /// Buffer.\nconst READ_BYTES_MAX: usize = 64 << 10;\n\
                    /// Silence.\nconst IDLE_TIMEOUT: Duration = Duration::from_secs(5);\n\
                    const NAME: &str = \"x\";\n\
                    /// All.\nstruct Limits {\n/// Deliveries.\nunsettled_max: u32,\n}\n\
                    impl Default for Limits { fn default() -> Self { Self { unsettled_max: 65_536 } } }\n";
        let source = Source::parse(Path::new("crates/amqp/src/x.rs"), text.to_owned()).unwrap();
        let table = table(&[source]);
        for row in [
            "| Links of one connection | 4,999 | `LINKS_MAX` in [`x.rs`](../crates/amqp/src/x.rs) |",
            "| Buffer | 64 KiB | `READ_BYTES_MAX` in",
            "| Silence | 5 s | `IDLE_TIMEOUT` in",
            "| Deliveries | 65,536 | `Limits::unsettled_max` in",
        ] {
            assert!(table.contains(row), "{row} is not in\n{table}");
        }
        assert!(!table.contains("NAME"));
    }

    #[test]
    fn a_document_keeps_what_is_around_its_table() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let made = current(&document, &[]).unwrap();
        assert_eq!(made, format!("before\n{BEGIN}\n{END}\nafter\n"));
        assert!(current("no marks", &[]).is_err());
    }
}
