//! Reading XML: a small tree, by namespace and not by prefix. A body that names a document type,
//! an entity of its own, or that is too deep or too broad, is refused.

use quick_xml::{
    NsReader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
    name::{NamespaceResolver, ResolveResult},
};

use super::write::is_xml_char;

/// Elements inside each other. Descriptions have six; clients add none.
const DEPTH_MAX: usize = 32;
/// Elements of one body. The largest description has about 150.
const ELEMENTS_COUNT_MAX: usize = 2_048;
/// Attributes of one element, declarations of namespaces among them.
const ATTRIBUTES_COUNT_MAX: usize = 32;

/// An element with all that is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Element {
    namespace: String,
    name: String,
    attributes: Vec<Attribute>,
    /// The elements in it, in order.
    pub(super) children: Vec<Element>,
    /// The text directly in it.
    pub(super) text: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Attribute {
    namespace: String,
    name: String,
    value: String,
}

impl Element {
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// Its name without prefix, if it is in that namespace.
    pub(super) fn name_in(&self, namespace: &str) -> Option<&str> {
        (self.namespace == namespace).then_some(self.name.as_str())
    }

    /// The first child of that name.
    pub(super) fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(namespace, name))
    }

    pub(super) fn attribute(&self, namespace: &str, name: &str) -> Option<&str> {
        let is_it = |attribute: &&Attribute| attribute.namespace == namespace && attribute.name == name;
        self.attributes.iter().find(is_it).map(|attribute| attribute.value.as_str())
    }
}

/// Reads a document.
///
/// # Errors
/// What is wrong with it, to stand behind "The body of the request".
pub(super) fn parse(body: &[u8]) -> Result<Element, String> {
    let text = std::str::from_utf8(body).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.chars().all(is_xml_char) {
        return Err("holds a character that XML does not have".to_owned());
    }
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    reader.resolver_mut().set_max_declarations_per_element(ATTRIBUTES_COUNT_MAX);
    let mut tree = Tree::default();
    loop {
        let event = reader.read_event().map_err(|error| format!("is no XML: {error}"))?;
        if matches!(event, Event::Eof) {
            return tree.finish();
        }
        tree.event(event, reader.resolver())?;
    }
}

#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    count: usize,
    root: Option<Element>,
}

impl Tree {
    fn event(&mut self, event: Event<'_>, resolver: &NamespaceResolver) -> Result<(), String> {
        let broken = |error: &dyn std::fmt::Display| format!("is no XML: {error}");
        match event {
            Event::Start(start) => self.start(&start, resolver)?,
            Event::End(_) => self.end(),
            Event::Text(text) => {
                self.text(&text.xml_content(XmlVersion::Explicit1_0).map_err(|error| broken(&error))?)?;
            }
            Event::CData(text) => {
                self.text(&text.xml_content(XmlVersion::Explicit1_0).map_err(|error| broken(&error))?)?;
            }
            Event::GeneralRef(reference) => {
                let resolved = character(&reference)?;
                self.text(resolved.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => return Err("has a document type, which is not allowed".to_owned()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(())
    }

    fn start(&mut self, start: &BytesStart<'_>, resolver: &NamespaceResolver) -> Result<(), String> {
        self.count += 1;
        if self.count > ELEMENTS_COUNT_MAX {
            return Err(format!("has more than {ELEMENTS_COUNT_MAX} elements"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("is more than {DEPTH_MAX} elements deep"));
        }
        if self.root.is_some() {
            return Err("has a second root element".to_owned());
        }
        let (bound, local) = resolver.resolve_element(start.name());
        let (namespace, name) = (namespace(&bound)?, utf8(local.into_inner())?);
        let mut attributes = Vec::new();
        // Comparing each with each is what repeated names cost; there are few of them.
        for attribute in start.attributes().take(ATTRIBUTES_COUNT_MAX + 1) {
            let attribute = attribute.map_err(|error| format!("is no XML: {error}"))?;
            if attributes.len() == ATTRIBUTES_COUNT_MAX {
                return Err(format!("has an element with more than {ATTRIBUTES_COUNT_MAX} attributes"));
            }
            let (bound, local) = resolver.resolve_attribute(attribute.key);
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|error| format!("is no XML: {error}"))?
                .into_owned();
            if !value.chars().all(is_xml_char) {
                return Err("holds a character that XML does not have".to_owned());
            }
            attributes.push(Attribute {
                namespace: self::namespace(&bound)?,
                name: utf8(local.into_inner())?,
                value,
            });
        }
        self.open.push(Element { namespace, name, attributes, ..Element::default() });
        Ok(())
    }

    /// The reader has seen that it ends what began last.
    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err("has text outside of its root element".to_owned()),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, String> {
        if !self.open.is_empty() {
            return Err("ends too early".to_owned());
        }
        self.root.ok_or_else(|| "has no root element".to_owned())
    }
}

/// What a reference stands for: one of the five of XML itself, or a character by its number.
fn character(reference: &BytesRef<'_>) -> Result<char, String> {
    let by_number = reference.resolve_char_ref().map_err(|error| format!("is no XML: {error}"))?;
    if let Some(c) = by_number {
        return Some(c)
            .filter(|c| is_xml_char(*c))
            .ok_or("holds a character that XML does not have".to_owned());
    }
    Ok(match &**reference {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        _ => return Err("refers to an entity that XML itself does not define".to_owned()),
    })
}

fn namespace(bound: &ResolveResult<'_>) -> Result<String, String> {
    match bound {
        ResolveResult::Bound(namespace) => utf8(namespace.into_inner()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(_) => Err("has a prefix without a namespace".to_owned()),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> String {
        parse(body.as_bytes()).expect_err(body)
    }

    #[test]
    fn names_are_told_apart_by_namespace_and_not_by_prefix() {
        let body =
            r#"<x:a xmlns:x="urn:1" xmlns="urn:2"><b y:c="d" xmlns:y="urn:3">e<!-- -->f</b><x:b/></x:a>"#;
        let root = parse(body.as_bytes()).expect("XML");
        assert!(root.is("urn:1", "a"));
        let child = root.child("urn:2", "b").expect("a child");
        assert_eq!((child.text.as_str(), child.attribute("urn:3", "c")), ("ef", Some("d")));
        assert_eq!(child.attribute("urn:2", "c"), None);
        assert!(root.child("urn:1", "b").is_some());
        assert_eq!(root.child("", "b"), None);
    }

    #[test]
    fn references_stand_for_characters() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><a b='&lt;&#65;'>&amp;&lt;&gt;&quot;&apos;&#x41;&#233;<![CDATA[<&]]></a>\n";
        let root = parse(body.as_bytes()).expect("XML");
        assert_eq!(root.text, "&<>\"'Aé<&");
        assert_eq!(root.attribute("", "b"), Some("<A"));
    }

    #[test]
    fn document_types_and_entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"xxxxxxxxxx\"><!ENTITY y \"&x;&x;\">]><a>&y;</a>";
        assert!(problem(bomb).contains("document type"));
        assert!(problem("<a>&y;</a>").contains("entity"));
        assert!(problem("<a b='&y;'/>").contains("is no XML"));
    }

    #[test]
    fn depth_and_breadth_are_bounded() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert!(problem(&deep(DEPTH_MAX + 1)).contains("deep"));
        assert!(problem(&format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_COUNT_MAX))).contains("elements"));
        let attributes: String = (0..=ATTRIBUTES_COUNT_MAX).map(|n| format!(" a{n}=''")).collect();
        assert!(problem(&format!("<a{attributes}/>")).contains("attributes"));
        let namespaces: String = (0..=ATTRIBUTES_COUNT_MAX).map(|n| format!(" xmlns:a{n}='u'")).collect();
        assert!(problem(&format!("<a{namespaces}/>")).contains("is no XML"));
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "<p:a/>",
            "<a p:b='c'/>",
            "<a b='c' b='c'/>",
            "<a>&#0;</a>",
            "<a>&#xFFFE;</a>",
            "<a>\u{1}</a>",
            "<a b='&#1;'/>",
            "<a>&#x110000;</a>",
        ] {
            problem(bad);
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }
}
