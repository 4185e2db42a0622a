//! The two JMS selectors that mean a message session.
//!
//! A JMS client cannot send the filter of Service Bus, but it can select: `JMSXGroupID` is its
//! name for the `group-id` of a message. What else the language of selectors can say is not
//! supported, and a selector that is not understood must be refused: without it, the client would
//! get messages that it did not ask for.

/// What clients are told that they may write.
pub(crate) const SUPPORTED: &str = "JMSXGroupID = 'id' and JMSXGroupID IS NOT NULL";

/// The identifier; JMS identifiers are case-sensitive.
const GROUP_ID: &str = "JMSXGroupID";

/// A selector that means a message session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JmsSelector {
    /// `JMSXGroupID = 'id'`: the message session of that id, quotes undone.
    Is(String),
    /// `JMSXGroupID IS NOT NULL`: the next message session.
    IsNotNull,
}

impl JmsSelector {
    /// Understands a selector, by the rules of SQL-92: two quotes in a literal are one, keywords
    /// may be written in any case, white space may stand between tokens. `None` for all others.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = skip_space(text).strip_prefix(GROUP_ID)?;
        let operator = skip_space(rest);
        if let Some(literal) = operator.strip_prefix('=') {
            let (id, rest) = string_literal(skip_space(literal))?;
            return skip_space(rest).is_empty().then_some(Self::Is(id));
        }
        // Without space between them, identifier and keyword would be one word.
        let mut words =
            rest.starts_with(is_space).then(|| operator.split(is_space))?.filter(|word| !word.is_empty());
        let is_not_null = ["IS", "NOT", "NULL"]
            .iter()
            .all(|keyword| words.next().is_some_and(|word| word.eq_ignore_ascii_case(keyword)));
        (is_not_null && words.next().is_none()).then_some(Self::IsNotNull)
    }

    /// The selector for one id.
    pub(crate) fn naming(id: &str) -> String {
        format!("{GROUP_ID} = '{}'", id.replace('\'', "''"))
    }
}

/// White space of selectors: space, tab, form feed, line ends.
const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c' | '\r' | '\n')
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// The literal at the beginning, without its quotes, and what follows it.
fn string_literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut literal = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        literal.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                literal.push('\'');
                rest = more;
            }
            None => return Some((literal, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(id: &str) -> Option<JmsSelector> {
        Some(JmsSelector::Is(id.into()))
    }

    #[test]
    fn a_comparison_with_a_literal_names_a_message_session() {
        for (text, id) in [
            ("JMSXGroupID = 'a'", "a"),
            ("JMSXGroupID='a'", "a"),
            ("\t JMSXGroupID\r\n =\x0c'a' \n", "a"),
            ("JMSXGroupID = ''", ""),
            ("JMSXGroupID = 'it''s'", "it's"),
            ("JMSXGroupID = ''''", "'"),
            ("JMSXGroupID = '''' ", "'"),
            ("JMSXGroupID = ' = ''x'' '", " = 'x' "),
            ("JMSXGroupID = 'Größe\u{1f600}'", "Größe\u{1f600}"),
            ("JMSXGroupID = 'JMSXGroupID IS NOT NULL'", "JMSXGroupID IS NOT NULL"),
        ] {
            assert_eq!(JmsSelector::parse(text), is(id), "{text}");
        }
    }

    #[test]
    fn is_not_null_in_any_case_means_the_next_message_session() {
        for text in
            ["JMSXGroupID IS NOT NULL", "JMSXGroupID is not null", " JMSXGroupID\tIs\nnOt \x0c NULL\r\n"]
        {
            assert_eq!(JmsSelector::parse(text), Some(JmsSelector::IsNotNull), "{text}");
        }
    }

    #[test]
    fn everything_else_is_not_understood() {
        for text in [
            "",
            " ",
            "JMSXGroupID",
            "JMSXGroupID IS NULL",
            "JMSXGroupIDIS NOT NULL",
            "JMSXGroupID ISNOT NULL",
            "JMSXGroupID IS NOT NULL AND a = 1",
            "JMSXGroupID IS NOT NULLS",
            "(JMSXGroupID IS NOT NULL)",
            "NOT JMSXGroupID IS NULL",
            "jmsxgroupid = 'a'",
            "JMSXGroupID2 = 'a'",
            "JMSXGroupSeq = 1",
            "JMSXGroupID = 1",
            "JMSXGroupID = a",
            "JMSXGroupID = \"a\"",
            "JMSXGroupID = 'a",
            "JMSXGroupID = 'a''",
            "JMSXGroupID = 'a' OR 1 = 1",
            "JMSXGroupID = 'a' 'b'",
            "JMSXGroupID == 'a'",
            "JMSXGroupID <> 'a'",
            "JMSXGroupID = 'a';",
            "JMSXGroupID LIKE 'a%'",
            "JMSXGroupID IN ('a')",
            "'a' = JMSXGroupID",
            "\u{a0}JMSXGroupID = 'a'",
            "JMSXGroupID\u{2003}= 'a'",
        ] {
            assert_eq!(JmsSelector::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_selector_made_for_an_id_names_it() {
        for id in ["", "a", "it's", "''", " JMSXGroupID = 'x' ", "\u{1f600}"] {
            assert_eq!(JmsSelector::parse(&JmsSelector::naming(id)), is(id), "{id}");
        }
    }
}
