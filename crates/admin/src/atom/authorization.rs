//! `AuthorizationRules` (admin.md 1.10).

use lockstep_model::{AuthorizationRule, Right, limits::AUTHORIZATION_RULES_MAX};

use super::{
    date,
    names::{SCHEMA_INSTANCE, SERVICE_BUS},
    write::Writer,
    xml::Element,
};
use crate::AdminError;

/// The one type of rule that there is.
const RULE_TYPE: &str = "SharedAccessAuthorizationRule";
/// Characters of the name of a rule.
const KEY_NAME_CHARS_MAX: usize = 256;
/// Characters of a key: 32 bytes in base 64. What they are is not looked at.
const KEY_CHARS: usize = 44;
/// Characters of a client's text that a refusal shows.
pub(super) const SHOWN_CHARS_MAX: usize = 64;
/// Rights by their names, in the order of Service Bus.
const RIGHTS: [(Right, &str); 3] =
    [(Right::Manage, "Manage"), (Right::Send, "Send"), (Right::Listen, "Listen")];

/// Reads the rules of a description.
///
/// # Errors
/// The first rule that Service Bus would not take.
pub(super) fn parse(element: &Element) -> Result<Vec<AuthorizationRule>, AdminError> {
    let mut rules: Vec<AuthorizationRule> = Vec::new();
    for child in element.children.iter().filter(|child| child.is(SERVICE_BUS, "AuthorizationRule")) {
        let rule = rule(child)?;
        if rules.iter().any(|other| other.key_name == rule.key_name) {
            return Err(invalid(&rule.key_name, "is there twice"));
        }
        rules.push(rule);
    }
    if rules.len() > AUTHORIZATION_RULES_MAX {
        let text = format!("An entity has at most {AUTHORIZATION_RULES_MAX} authorization rules.");
        return Err(AdminError::Invalid(text));
    }
    Ok(rules)
}

fn invalid(key_name: &str, problem: &str) -> AdminError {
    let key_name: String = key_name.chars().take(SHOWN_CHARS_MAX).collect();
    AdminError::Invalid(format!("The authorization rule '{key_name}' {problem}."))
}

fn rule(element: &Element) -> Result<AuthorizationRule, AdminError> {
    let text = |name: &str| element.child(SERVICE_BUS, name).map(|child| child.text.as_str());
    let key_name = text("KeyName").unwrap_or("");
    let of_type = element.attribute(SCHEMA_INSTANCE, "type").unwrap_or(RULE_TYPE);
    // A prefix says nothing; there is one type.
    if of_type.rsplit(':').next() != Some(RULE_TYPE) {
        return Err(invalid(key_name, "is of a type other than SharedAccessAuthorizationRule"));
    }
    let is_name = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '&' | '?' | '#' | '%' | '=');
    let chars = key_name.chars().count();
    if chars == 0 || chars > KEY_NAME_CHARS_MAX || !key_name.chars().all(is_name) {
        return Err(invalid(key_name, "needs a name of 1 to 256 characters that a URL may hold"));
    }
    let rights = rights(element).map_err(|problem| invalid(key_name, &problem))?;
    let key = |name: &str, otherwise: Option<&str>| {
        let key = text(name).filter(|key| !key.is_empty()).or(otherwise).unwrap_or("");
        if key.chars().count() == KEY_CHARS && key.is_ascii() {
            Ok(Box::from(key))
        } else {
            Err(invalid(key_name, &format!("needs a {name} of {KEY_CHARS} characters")))
        }
    };
    let primary_key: Box<str> = key("PrimaryKey", None)?;
    let secondary_key = key("SecondaryKey", Some(&primary_key))?;
    // One that cannot be read is as if it had been left out; nothing depends on them.
    let date = |name: &str| text(name).and_then(date::parse);
    let key_name = key_name.into();
    Ok(AuthorizationRule {
        key_name,
        primary_key,
        secondary_key,
        rights,
        created_at: date("CreatedTime"),
        modified_at: date("ModifiedTime"),
    })
}

fn rights(element: &Element) -> Result<Vec<Right>, String> {
    let mut rights = Vec::new();
    let listed = element.child(SERVICE_BUS, "Rights").map_or(&[][..], |rights| &rights.children);
    for child in listed.iter().filter(|child| child.is(SERVICE_BUS, "AccessRights")) {
        let name = child.text.trim();
        let known = RIGHTS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        let shown = || name.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let (right, _) = known.ok_or_else(|| format!("gives '{}', which is no right", shown()))?;
        if rights.contains(right) {
            return Err(format!("gives '{name}' twice"));
        }
        rights.push(*right);
    }
    if rights.is_empty() {
        return Err("gives no right".to_owned());
    }
    if rights.contains(&Right::Manage) && rights.len() < RIGHTS.len() {
        return Err("gives Manage, which needs Send and Listen too".to_owned());
    }
    Ok(rights)
}

/// Writes the element. Without rules it must have no attribute (admin.md 0.6).
pub(super) fn write(to: &mut Writer, rules: &[AuthorizationRule]) {
    to.raw("<AuthorizationRules>");
    for rule in rules {
        to.raw("<AuthorizationRule i:type=\"SharedAccessAuthorizationRule\">");
        to.element("ClaimType", "SharedAccessKey");
        to.element("ClaimValue", "None");
        to.raw("<Rights>");
        for right in &rule.rights {
            let name = RIGHTS.iter().find(|(known, _)| known == right).map_or("", |(_, name)| name);
            to.element("AccessRights", name);
        }
        to.raw("</Rights>");
        for (name, time) in [("CreatedTime", rule.created_at), ("ModifiedTime", rule.modified_at)] {
            if let Some(time) = time {
                to.element(name, date::to_ticks(time));
            }
        }
        to.element("KeyName", &rule.key_name);
        to.element("PrimaryKey", &rule.primary_key);
        to.element("SecondaryKey", &rule.secondary_key);
        to.raw("</AuthorizationRule>");
    }
    to.raw("</AuthorizationRules>");
}
