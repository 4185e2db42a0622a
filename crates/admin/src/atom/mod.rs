//! ATOM entries and feeds, with the XML of Service Bus in them.

mod authorization;
pub(crate) mod date;
mod duration;
mod entry;
mod queue;
mod queue_request;
pub(crate) mod write;
mod xml;

pub use entry::{
    RequestUrl, missing_entity, namespace_info, queue_created, queue_entry, queue_feed, topic_feed,
};
pub use queue::{QueueSnapshot, RuntimeCounts};
pub use queue_request::QueueProperties;

/// XML namespaces (admin.md, head).
mod names {
    pub(super) const ATOM: &str = "http://www.w3.org/2005/Atom";
    pub(super) const SERVICE_BUS: &str =
        "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
    pub(super) const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";
    pub(super) const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
}
