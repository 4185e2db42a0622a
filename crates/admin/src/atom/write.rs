//! Writing XML.

use std::fmt::Display;

/// Appends text so that it stands for itself between tags and in attributes. Characters that XML
/// has no way to write become question marks; what comes from a request holds none.
pub(crate) fn escape(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            // Readers would make spaces of them.
            '\r' => to.push_str("&#xD;"),
            '\n' => to.push_str("&#xA;"),
            '\t' => to.push_str("&#x9;"),
            c if is_xml_char(c) => to.push(c),
            _ => to.push('?'),
        }
    }
}

/// Whether XML 1.0 has the character (its section 2.2).
pub(super) const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A document in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
}

impl Writer {
    /// Appends markup as it is.
    pub(super) fn raw(&mut self, markup: &str) {
        self.text.push_str(markup);
    }

    /// `<name>value</name>`.
    pub(super) fn element(&mut self, name: &str, value: impl Display) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        escape(&mut self.text, &value.to_string());
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// ` name="value"`, inside a start tag.
    pub(super) fn attribute(&mut self, name: &str, value: &str) {
        self.text.push(' ');
        self.text.push_str(name);
        self.text.push_str("=\"");
        escape(&mut self.text, value);
        self.text.push('"');
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_itself() {
        let mut writer = Writer::default();
        writer.raw("<a");
        writer.attribute("b", "\"x\" & 'y'");
        writer.raw(">");
        writer.element("c", "<]]>\r\n\u{1}é");
        assert_eq!(writer.finish(), "<a b=\"&quot;x&quot; &amp; 'y'\"><c>&lt;]]&gt;&#xD;&#xA;?é</c>");
    }
}
