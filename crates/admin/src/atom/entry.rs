//! Entries and feeds (admin.md 1.4, 1.9).

use lockstep_model::Timestamp;

use super::{
    date,
    names::{ATOM, SCHEMA_INSTANCE, SERVICE_BUS},
    queue::{self, Extent, QueueSnapshot},
    write::Writer,
};
use crate::{
    Reply,
    router::{Page, parameter},
};

/// The URL of a request and what its answer says besides.
#[derive(Clone, Copy, Debug)]
pub struct RequestUrl<'a> {
    /// Scheme, host and port as the client spelled them, e.g. `https://localhost:5671`.
    pub base: &'a str,
    /// The path, as it came: JavaScript takes names from it, in its letter case (admin.md 0.3).
    pub path: &'a str,
    /// The query, as it came.
    pub query: &'a str,
    /// The name of the namespace.
    pub namespace: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl RequestUrl<'_> {
    fn whole(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{}{}{mark}{}", self.base, self.path, self.query)
    }

    /// The query of the entities of a list.
    fn api_version(&self) -> String {
        parameter(self.query, "api-version").map_or_else(String::new, |version| {
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            format!("?api-version={}", version.chars().filter(|c| safe(*c)).collect::<String>())
        })
    }
}

/// What stands around a description.
struct Head<'a> {
    id: &'a str,
    /// Where the entity is, as a link.
    href: &'a str,
    title: &'a str,
    published: Option<Timestamp>,
    updated: Timestamp,
    author: &'a str,
}

fn write_entry(to: &mut Writer, head: &Head<'_>, content: impl FnOnce(&mut Writer)) {
    to.element("id", head.id);
    write_title(to, head.title);
    if let Some(published) = head.published {
        to.element("published", date::to_seconds(published));
    }
    to.element("updated", date::to_seconds(head.updated));
    to.raw("<author>");
    to.element("name", head.author);
    to.raw("</author>");
    write_link(to, "self", head.href);
    to.raw("<content type=\"application/xml\">");
    content(to);
    to.raw("</content></entry>");
}

fn write_title(to: &mut Writer, title: &str) {
    to.raw("<title type=\"text\">");
    let mut escaped = String::new();
    super::write::escape(&mut escaped, title);
    to.raw(&escaped);
    to.raw("</title>");
}

fn write_link(to: &mut Writer, rel: &str, href: &str) {
    to.raw("<link");
    to.attribute("rel", rel);
    to.attribute("href", href);
    to.raw("/>");
}

fn start(element: &str) -> Writer {
    let mut to = Writer::default();
    to.raw("<");
    to.raw(element);
    to.attribute("xmlns", ATOM);
    to.raw(">");
    to
}

fn one_queue(url: &RequestUrl<'_>, snapshot: &QueueSnapshot, extent: Extent) -> String {
    let whole = url.whole();
    let head = Head {
        id: &whole,
        href: &whole,
        title: snapshot.description.name.as_str(),
        published: Some(snapshot.description.created_at),
        updated: snapshot.description.updated_at,
        author: url.namespace,
    };
    let mut to = start("entry");
    write_entry(&mut to, &head, |to| queue::write(to, snapshot, extent));
    to.finish()
}

/// The answer to a creation (`status` 201) or an update (200).
#[must_use]
pub fn queue_created(url: &RequestUrl<'_>, snapshot: &QueueSnapshot, status: u16) -> Reply {
    Reply::entry(status, one_queue(url, snapshot, Extent::Definition))
}

/// One queue with its counts.
#[must_use]
pub fn queue_entry(url: &RequestUrl<'_>, snapshot: &QueueSnapshot) -> Reply {
    Reply::entry(200, one_queue(url, snapshot, Extent::Full))
}

fn start_feed(url: &RequestUrl<'_>, title: &str, next: Option<&str>) -> Writer {
    let mut to = start("feed");
    let whole = url.whole();
    write_title(&mut to, title);
    to.element("id", &whole);
    to.element("updated", date::to_seconds(url.now));
    write_link(&mut to, "self", &whole);
    if let Some(next) = next {
        write_link(&mut to, "next", next);
    }
    to
}

/// One page of the queues. A full page names the next one, which may be empty.
#[must_use]
pub fn queue_feed(url: &RequestUrl<'_>, page: Page, queues: &[QueueSnapshot]) -> Reply {
    let is_full = page.top > 0 && queues.len() >= page.top as usize;
    let next = is_full.then(|| {
        let version = parameter(url.query, "api-version")
            .map_or_else(String::new, |_| format!("{}&", url.api_version().trim_start_matches('?')));
        let skip = u64::from(page.skip) + queues.len() as u64;
        format!("{}{}?{version}enrich=false&%24skip={skip}&%24top={}", url.base, url.path, page.top)
    });
    let mut to = start_feed(url, "Queues", next.as_deref());
    let (whole, version) = (url.whole(), url.api_version());
    for snapshot in queues {
        let name = snapshot.description.name.as_str();
        let id = format!("{}/{name}{version}", url.base);
        let head = Head {
            id: &id,
            href: &format!("../{name}{version}"),
            title: name,
            published: Some(snapshot.description.created_at),
            updated: snapshot.description.updated_at,
            author: url.namespace,
        };
        to.raw("<entry");
        to.attribute("xml:base", &whole);
        to.raw(">");
        write_entry(&mut to, &head, |to| queue::write(to, snapshot, Extent::Full));
    }
    to.raw("</feed>");
    Reply::feed(to.finish())
}

/// The topics: none yet.
#[must_use]
pub fn topic_feed(url: &RequestUrl<'_>) -> Reply {
    let mut to = start_feed(url, "Topics", None);
    to.raw("</feed>");
    Reply::feed(to.finish())
}

/// The answer to a look at an entity that is not there: a feed of nothing, with the title by which
/// Go knows it (admin.md 0.2). `id` makes it unique.
#[must_use]
pub fn missing_entity(id: &str, now: Timestamp) -> Reply {
    let mut to = start("feed");
    write_title(&mut to, "Publicly Listed Services");
    to.raw("<subtitle type=\"text\">This is the list of publicly-listed services currently available.</subtitle>");
    to.element("id", format!("uuid:{id};id=1"));
    to.element("updated", date::to_seconds(now));
    to.element("generator", "Service Bus 1.1");
    to.raw("</feed>");
    Reply::feed(to.finish())
}

/// Properties of the namespace, whose queues were created and changed from `created_at` to
/// `modified_at`.
#[must_use]
pub fn namespace_info(url: &RequestUrl<'_>, created_at: Timestamp, modified_at: Timestamp) -> Reply {
    let whole = url.whole();
    let head = Head {
        id: &whole,
        href: &whole,
        title: url.namespace,
        published: None,
        updated: modified_at,
        author: url.namespace,
    };
    let mut to = start("entry");
    write_entry(&mut to, &head, |to| {
        to.raw("<NamespaceInfo");
        to.attribute("xmlns", SERVICE_BUS);
        to.attribute("xmlns:i", SCHEMA_INSTANCE);
        to.raw(">");
        to.element("CreatedTime", date::to_ticks(created_at));
        to.element("MessagingSKU", "Standard");
        to.element("ModifiedTime", date::to_ticks(modified_at));
        to.element("Name", url.namespace);
        to.element("NamespaceType", "Messaging");
        to.raw("</NamespaceInfo>");
    });
    Reply::entry(200, to.finish())
}

#[cfg(test)]
mod tests;
