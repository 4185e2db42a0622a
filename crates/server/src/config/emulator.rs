//! The `Config.json` of Microsoft's emulator: JSON with comments, any number of namespaces and
//! entities, any names.

use std::time::Duration;

use super::{
    keys,
    queue_properties::{self, PropertyValue, QueueProperty},
    raw::{Later, RawNamespace, RawQueue, required_name, topic_left_out},
    section::{Located, Report, Section},
    tree::Node,
};

/// The emulator's own default of `MaxDeliveryCount` (its configuration schema).
const EMULATOR_DELIVERY_COUNT_DEFAULT: u64 = 3;
/// Of `DefaultMessageTimeToLive`.
const EMULATOR_TIME_TO_LIVE_DEFAULT: Duration = Duration::from_secs(3_600);
/// Of `DuplicateDetectionHistoryTimeWindow`.
const EMULATOR_DUPLICATE_DETECTION_WINDOW_DEFAULT: Duration = Duration::from_secs(20);

/// Reads the tree of a `Config.json`. `emulator_defaults` takes the emulator's defaults for what
/// the file leaves out, instead of Azure's (semantics D-44).
pub(super) fn read(root: &Node, emulator_defaults: bool, report: &mut Report) -> Vec<RawNamespace> {
    let Some(section) = Section::open(root, &keys::EMULATOR_ROOT, report) else { return Vec::new() };
    let Some(user_config) = section.node("UserConfig") else {
        report.problem(section.line, "the file needs \"UserConfig\", an object that holds \"Namespaces\"");
        return Vec::new();
    };
    let Some(section) = Section::open(user_config, &keys::EMULATOR_USER_CONFIG, report) else {
        return Vec::new();
    };
    let logging = section.node("Logging");
    if let Some(logging) = logging.and_then(|node| Section::open(node, &keys::EMULATOR_LOGGING, report))
        && let Some(kind) = logging.text("Type", report)
        && kind.value.contains("File")
    {
        let text = format!("Logging.Type \"{}\" is not used: the log goes to standard error", kind.value);
        report.warning(kind.origin.line, text);
    }
    section
        .nodes("Namespaces", report)
        .iter()
        .filter_map(|node| namespace(node, emulator_defaults, report))
        .collect()
}

fn namespace(node: &Node, emulator_defaults: bool, report: &mut Report) -> Option<RawNamespace> {
    let section = Section::open(node, &keys::EMULATOR_NAMESPACE, report)?;
    let queues = section
        .nodes("Queues", report)
        .iter()
        .filter_map(|node| queue(node, emulator_defaults, report))
        .collect();
    let mut topics_left_out = Vec::new();
    for node in section.nodes("Topics", report) {
        if let Some(topic) = Section::open(node, &keys::EMULATOR_TOPIC, report)
            && let Some(name) = required_name(&topic, "Name", report)
        {
            topics_left_out.push(topic_left_out(&name.value, name.origin.line, report));
        }
    }
    let name = required_name(&section, "Name", report)?;
    Some(RawNamespace {
        name,
        host_names: Vec::new(),
        policies: Vec::new(),
        client_certificates: Vec::new(),
        queues,
        topics_left_out,
    })
}

fn queue(node: &Node, emulator_defaults: bool, report: &mut Report) -> Option<RawQueue> {
    let section = Section::open(node, &keys::EMULATOR_QUEUE, report)?;
    let name = required_name(&section, "Name", report)?;
    let mut queue =
        RawQueue { properties: Vec::new(), policies: Vec::new(), client_certificates: Vec::new(), name };
    let properties = section.node("Properties");
    if let Some(properties) =
        properties.and_then(|node| Section::open(node, &keys::EMULATOR_QUEUE_PROPERTIES, report))
    {
        read_properties(&properties, &mut queue, report);
    }
    if emulator_defaults {
        add_emulator_defaults(&mut queue);
    }
    Some(queue)
}

/// What the emulator sets where its file says nothing.
fn add_emulator_defaults(queue: &mut RawQueue) {
    let defaults = [
        ("max_delivery_count", "MaxDeliveryCount", PropertyValue::Count(EMULATOR_DELIVERY_COUNT_DEFAULT)),
        (
            "default_message_time_to_live_s",
            "DefaultMessageTimeToLive",
            PropertyValue::Time(EMULATOR_TIME_TO_LIVE_DEFAULT),
        ),
        (
            "duplicate_detection_history_time_window_s",
            "DuplicateDetectionHistoryTimeWindow",
            PropertyValue::Time(EMULATOR_DUPLICATE_DETECTION_WINDOW_DEFAULT),
        ),
    ];
    for (name, spelling, value) in defaults {
        if !queue.properties.iter().any(|property| property.name == name) {
            let origin = queue.name.origin.clone();
            queue.properties.push(QueueProperty { name, spelling, origin, value });
        }
    }
}

fn read_properties(properties: &Section<'_>, queue: &mut RawQueue, report: &mut Report) {
    queue.properties = queue_properties::read(properties, keys::Format::Emulator, report);
    let mut later = Later { queue: &queue.name.value, report };
    for target in ["ForwardTo", "ForwardDeadLetteredMessagesTo"] {
        let asked = properties.text(target, later.report).filter(|target| !target.value.is_empty());
        later.left_out(asked.as_ref(), target);
    }
}

pub(super) fn duration(
    section: &Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<Located<Duration>> {
    let text = section.text(key, report)?;
    if let Some(value) = parse_iso_duration(&text.value) {
        return Some(Located { value, origin: text.origin });
    }
    report.problem(
        text.origin.line,
        format!(
            "{key} must be an ISO 8601 duration such as \"PT30S\", \"PT5M\" or \"PT1H\", not \"{}\"",
            text.value
        ),
    );
    None
}

/// Parses `P[nD][T[nH][nM][n.nS]]`, at least one part. Years and months have no fixed length and
/// are refused, as .NET would not write them.
fn parse_iso_duration(text: &str) -> Option<Duration> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = parse_parts(date, &[('D', 86_400)])?;
    days.checked_add(parse_parts(time, &[('H', 3_600), ('M', 60), ('S', 1)])?)
}

/// Parses numbers with unit letters, which come in the order of `units`; only seconds may have
/// decimals.
fn parse_parts(text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut units = units.iter();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let letter = tail.chars().next()?;
        let (_, unit_s) = units.find(|(unit, _)| *unit == letter)?;
        let part = match number.split_once('.') {
            None => Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(*unit_s)?),
            Some((whole, fraction)) if *unit_s == 1 => seconds_with_fraction(whole, fraction)?,
            Some(_) => return None,
        };
        total = total.checked_add(part)?;
        rest = &tail[letter.len_utf8()..];
    }
    Some(total)
}

fn seconds_with_fraction(whole: &str, fraction: &str) -> Option<Duration> {
    /// Decimals of a second that are kept.
    const NANOSECOND_DIGITS: usize = 9;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(NANOSECOND_DIGITS).collect();
    Some(Duration::new(whole.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_durations_are_read_in_all_their_parts() {
        let cases = [
            ("PT1M", Duration::from_secs(60)),
            ("PT0.5S", Duration::from_millis(500)),
            ("P1DT2H3M4S", Duration::from_secs(93_784)),
            ("P14D", Duration::from_secs(14 * 86_400)),
            ("P10675199DT2H48M5.4775807S", Duration::new(922_337_203_685, 477_580_700)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_iso_duration(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_iso_durations() {
        for text in
            ["", "P", "PT", "60", "1M", "PT1", "PT1X", "P1Y", "PT1S1M", "PT1.5M", "-PT1M", "PT1.S", "P1DT"]
        {
            assert_eq!(parse_iso_duration(text), None, "{text}");
        }
    }
}
